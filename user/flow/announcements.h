// Announcements of which no flow is known yet.

#ifndef PACKET_HEADERS_USER_FLOW_ANNOUNCEMENTS_H_
#define PACKET_HEADERS_USER_FLOW_ANNOUNCEMENTS_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>

#include "packet_headers/flow_key.h"
#include "user/flow/announcement.h"

namespace packet_headers {

// tcp-info stamps an event with the time at which it began to look at the sockets, which may be
// before the first packet of a connection that it then saw.
inline constexpr int64_t kAnnouncedEarlyNs = 100'000'000;

// One key of an announcement on its way to the shard that the key belongs to. Nobody knows which
// end of the announced connection the flow will call local, so there are two of each.
struct KeyedAnnouncement {
  ph_flow_key key;
  uint32_t flow_hash;  // of the key
  std::shared_ptr<const Announcement> announcement;
};

// Forgets the oldest beyond `most`, and beyond kMostPerTuple of a tuple: what is announced of one
// can't slow down the rest. One thread.
class Announcements {
 public:
  static constexpr size_t kMostPerTuple = 4;

  explicit Announcements(size_t most) : most_(most) {}

  void Add(KeyedAnnouncement keyed);

  // The one that is of the socket with the cookie or, where that is 0, the earliest one that may be
  // of a flow that began at `first_ns` since the Unix epoch. Null if there is none; valid until
  // the next call.
  const Announcement* Find(const ph_flow_key& key, uint32_t flow_hash, uint64_t cookie,
                           int64_t first_ns) const;

  // The same, and forgets it.
  std::shared_ptr<const Announcement> Take(const ph_flow_key& key, uint32_t flow_hash,
                                           uint64_t cookie, int64_t first_ns);

 private:
  using Waiting = std::list<KeyedAnnouncement>;  // oldest first
  using ByHash = std::unordered_multimap<uint32_t, Waiting::iterator>;

  void Forget(ByHash::const_iterator place);
  ByHash::const_iterator Search(const ph_flow_key& key, uint32_t flow_hash, uint64_t cookie,
                                int64_t first_ns) const;

  const size_t most_;
  Waiting waiting_;
  ByHash by_hash_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_ANNOUNCEMENTS_H_

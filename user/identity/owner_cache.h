// The owners of the tuples that send: whose cookie an egress packet gets where no hook knows it.

#ifndef PACKET_HEADERS_USER_IDENTITY_OWNER_CACHE_H_
#define PACKET_HEADERS_USER_IDENTITY_OWNER_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "packet_headers/flow_key.h"
#include "packet_headers/header_record.h"
#include "user/identity/recent_tuples.h"

namespace packet_headers {

// One thread. Time is that of the records.
class OwnerCache {
 public:
  // The cookie of the socket with this 4-tuple, or 0; for packets that leave by the interface.
  using Ask = std::function<uint64_t(const ph_flow_key& key, uint32_t ifindex)>;

  // Knows at most `most` tuples; those that sent nothing for the longest time give way.
  OwnerCache(size_t most, const ph_hash_seed& seed, Ask ask)
      : owners_(most, seed), ask_(std::move(ask)) {}

  // The cookie for a packet of the tuple, to be called for every packet of it, in order.
  //
  // Asks for the first packet that the host sends of a connection, except for a SYN-ACK, which
  // comes before the socket: then for the answer to it, the only ingress packet that gets a cookie.
  // Where there was no owner, asks again with a later packet that the host sends after 1 ms, 2 ms
  // and so on up to 10 s, and with a FIN. Resets never ask: they often come from nobody.
  uint64_t CookieFor(const ph_flow_key& key, const ph_header_record& record);

  // To be told of a socket that is gone, as was noticed at `noticed_ns`: it owns what was sent
  // until then and found no owner. Returns whether such a packet has come already.
  bool OnDeparture(const ph_flow_key& key, uint64_t cookie, int64_t noticed_ns);

 private:
  struct Owner {
    uint64_t cookie = 0;
    uint64_t departed_cookie = 0;
    int64_t departed_ns = 0;
    int64_t ask_again_ns = 0;
    uint32_t misses = 0;
    uint32_t syn_seq_be = 0;        // of the SYN or SYN-ACK that the host sent
    bool has_sent = false;          // whether it sent anything
    bool has_syn = false;           // whether it sent one of these
    bool has_open_syn_ack = false;  // to which no answer came yet
  };

  // Asks for the owner of a packet.
  void Look(Owner& owner, const ph_flow_key& key, const ph_header_record& record);
  uint64_t ForIngress(const ph_flow_key& key, const ph_header_record& record);

  RecentTuples<Owner> owners_;
  const Ask ask_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_OWNER_CACHE_H_

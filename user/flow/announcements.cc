#include "user/flow/announcements.h"

#include <cstring>
#include <iterator>
#include <utility>

namespace packet_headers {
namespace {

bool IsOf(const KeyedAnnouncement& keyed, const ph_flow_key& key) {
  return std::memcmp(&keyed.key, &key, sizeof(key)) == 0;
}

}  // namespace

void Announcements::Add(KeyedAnnouncement keyed) {
  size_t of_tuple = 0;
  auto oldest = by_hash_.cend();
  const auto [first, last] = by_hash_.equal_range(keyed.flow_hash);
  for (auto place = first; place != last;) {
    const KeyedAnnouncement& known = *place->second;
    const auto next = std::next(place);
    if (IsOf(known, keyed.key)) {
      if (known.announcement->cookie == keyed.announcement->cookie) {
        Forget(place);
      } else {
        ++of_tuple;
        const bool is_older = oldest == by_hash_.cend() ||
                              known.announcement->time_ns < oldest->second->announcement->time_ns;
        if (is_older) oldest = place;
      }
    }
    place = next;
  }
  if (of_tuple == kMostPerTuple) Forget(oldest);

  const uint32_t hash = keyed.flow_hash;
  by_hash_.emplace(hash, waiting_.insert(waiting_.end(), std::move(keyed)));
  if (waiting_.size() <= most_) return;
  const auto [begin, end] = by_hash_.equal_range(waiting_.front().flow_hash);
  for (auto place = begin; place != end; ++place) {
    if (place->second != waiting_.begin()) continue;
    Forget(place);
    break;
  }
}

void Announcements::Forget(ByHash::const_iterator place) {
  waiting_.erase(place->second);
  by_hash_.erase(place);
}

Announcements::ByHash::const_iterator Announcements::Search(const ph_flow_key& key,
                                                            uint32_t flow_hash, uint64_t cookie,
                                                            int64_t first_ns) const {
  auto found = by_hash_.end();
  const auto [first, last] = by_hash_.equal_range(flow_hash);
  for (auto candidate = first; candidate != last; ++candidate) {
    const KeyedAnnouncement& keyed = *candidate->second;
    const Announcement& announcement = *keyed.announcement;
    if (!IsOf(keyed, key)) continue;
    const bool fits = cookie != 0 ? announcement.cookie == cookie
                                  : announcement.time_ns + kAnnouncedEarlyNs >= first_ns;
    const bool is_earlier =
        found == by_hash_.end() || announcement.time_ns < found->second->announcement->time_ns;
    if (fits && is_earlier) found = candidate;
  }
  return found;
}

const Announcement* Announcements::Find(const ph_flow_key& key, uint32_t flow_hash, uint64_t cookie,
                                        int64_t first_ns) const {
  const auto found = Search(key, flow_hash, cookie, first_ns);
  return found == by_hash_.end() ? nullptr : found->second->announcement.get();
}

std::shared_ptr<const Announcement> Announcements::Take(const ph_flow_key& key, uint32_t flow_hash,
                                                        uint64_t cookie, int64_t first_ns) {
  const auto found = Search(key, flow_hash, cookie, first_ns);
  if (found == by_hash_.end()) return nullptr;
  std::shared_ptr<const Announcement> taken = std::move(found->second->announcement);
  Forget(found);
  return taken;
}

}  // namespace packet_headers

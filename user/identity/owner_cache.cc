#include "user/identity/owner_cache.h"

#include <algorithm>
#include <cstring>

#include "packet_headers/parse.h"

namespace packet_headers {
namespace {

constexpr int64_t kFirstPauseNs = 1'000'000;
constexpr int64_t kLongestPauseNs = 10'000'000'000;
constexpr uint32_t kMostDoublings = 14;  // beyond them a pause is the longest anyway

uint32_t SequenceBe(const ph_header_record& record) {
  uint32_t sequence_be;
  std::memcpy(&sequence_be, record.headers + record.l4_offset + offsetof(ph_tcp, sequence_be),
              sizeof(sequence_be));
  return sequence_be;
}

}  // namespace

void OwnerCache::Look(Owner& owner, const ph_flow_key& key, const ph_header_record& record) {
  owner.cookie = ask_(key, record.ifindex);
  // Who was gone before can't have sent it.
  if (owner.cookie == 0 && owner.departed_ns >= static_cast<int64_t>(record.time_ns)) {
    owner.cookie = owner.departed_cookie;
  }
}

uint64_t OwnerCache::ForIngress(const ph_flow_key& key, const ph_header_record& record) {
  const uint8_t flags = record.tcp_flags & (PH_TCP_SYN | PH_TCP_ACK | PH_TCP_RST);
  if (flags != PH_TCP_SYN && flags != PH_TCP_ACK) return 0;
  Owner* const owner = owners_.Find(key);
  if (owner == nullptr) return 0;
  if (flags == PH_TCP_SYN) {
    // Another socket may answer it, and its SYN-ACK may be lost on the way to us.
    owner->cookie = 0;
    owner->misses = 0;
    return 0;
  }
  if (!owner->has_open_syn_ack) return 0;
  owner->has_open_syn_ack = false;
  Look(*owner, key, record);
  return owner->cookie;
}

uint64_t OwnerCache::CookieFor(const ph_flow_key& key, const ph_header_record& record) {
  if (record.direction == PH_INGRESS) return ForIngress(key, record);
  const uint8_t flags = record.tcp_flags;
  if ((flags & PH_TCP_RST) != 0) {
    const Owner* owner = owners_.Find(key);
    return owner == nullptr ? 0 : owner->cookie;
  }
  Owner& owner = owners_.FindOrAdd(key);
  owner.has_sent = true;
  if ((flags & PH_TCP_SYN) != 0) {
    const uint32_t sequence_be = SequenceBe(record);
    const bool is_sent_again = owner.has_syn && owner.syn_seq_be == sequence_be;
    if (!is_sent_again) {
      owner = {.departed_cookie = owner.departed_cookie,
               .departed_ns = owner.departed_ns,
               .syn_seq_be = sequence_be,
               .has_sent = true,
               .has_syn = true};
    }
    if ((flags & PH_TCP_ACK) != 0) {
      owner.has_open_syn_ack = owner.cookie == 0;
      return owner.cookie;
    }
  }
  const int64_t now_ns = static_cast<int64_t>(record.time_ns);
  const bool may_ask =
      owner.misses == 0 || now_ns >= owner.ask_again_ns || (flags & PH_TCP_FIN) != 0;
  if (owner.cookie == 0 && may_ask) {
    Look(owner, key, record);
    const uint32_t doublings = std::min(owner.misses++, kMostDoublings);
    owner.ask_again_ns = now_ns + std::min(kFirstPauseNs << doublings, kLongestPauseNs);
  }
  return owner.cookie;
}

bool OwnerCache::OnDeparture(const ph_flow_key& key, uint64_t cookie, int64_t noticed_ns) {
  Owner& owner = owners_.FindOrAdd(key);
  owner.departed_cookie = cookie;
  owner.departed_ns = noticed_ns;
  if (!owner.has_sent || owner.cookie != 0) return false;
  owner.cookie = cookie;
  return true;
}

}  // namespace packet_headers

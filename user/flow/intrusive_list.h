// Circular doubly linked lists through members of their elements: no allocation, O(1) unlink.

#ifndef PACKET_HEADERS_USER_FLOW_INTRUSIVE_LIST_H_
#define PACKET_HEADERS_USER_FLOW_INTRUSIVE_LIST_H_

namespace packet_headers {

// An element's place in one list. Leaves the list when it is destroyed.
class ListNode {
 public:
  ListNode() = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;
  ~ListNode() { Unlink(); }

  void Unlink() {
    previous_->next_ = next_;
    next_->previous_ = previous_;
    previous_ = next_ = this;
  }

 private:
  template <typename Node>
  friend class IntrusiveList;

  ListNode* previous_ = this;
  ListNode* next_ = this;
};

// A list of objects that derive from Node, which derives from ListNode. Owns nothing.
template <typename Node>
class IntrusiveList {
 public:
  bool empty() const { return sentinel_.next_ == &sentinel_; }

  // Null when the list is empty.
  Node* front() const { return empty() ? nullptr : static_cast<Node*>(sentinel_.next_); }

  // The one behind `node`, which is in this list. Null behind the last.
  Node* Next(const Node& node) const {
    ListNode* next = static_cast<const ListNode&>(node).next_;
    return next == &sentinel_ ? nullptr : static_cast<Node*>(next);
  }

  // Takes `node` out of the list that it is in.
  void PushBack(Node& node) {
    ListNode& link = node;
    link.Unlink();
    link.previous_ = sentinel_.previous_;
    link.next_ = &sentinel_;
    sentinel_.previous_->next_ = &link;
    sentinel_.previous_ = &link;
  }

  // Moves all elements of `other` to the end.
  void Splice(IntrusiveList& other) {
    while (Node* node = other.front()) PushBack(*node);
  }

  template <typename Use>
  void ForEach(Use use) const {
    for (ListNode* node = sentinel_.next_; node != &sentinel_;) {
      ListNode* next = node->next_;  // `use` may unlink the node
      use(*static_cast<Node*>(node));
      node = next;
    }
  }

 private:
  ListNode sentinel_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_INTRUSIVE_LIST_H_

// Which files a process may reach, by Landlock.

#ifndef PACKET_HEADERS_USER_SERVICE_LANDLOCK_H_
#define PACKET_HEADERS_USER_SERVICE_LANDLOCK_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace packet_headers {

// Paths, relative ones from the working directory. What is not there is not allowed, either.
struct FileAccess {
  std::vector<std::string> write_beneath;    // folders: everything but devices, sockets and links
  std::vector<std::string> replace_beneath;  // folders: making, moving and removing folders
  std::vector<std::string> remove_beneath;   // folders: removing files
  std::vector<std::string> read;             // files, and folders with all beneath
};

// From now on the calling thread, and those that it starts later, open and change no other files,
// send signals to no other process, and connect to no other host nor to another's abstract socket.
// Rights of descriptors that are open stay. no_new_privs must be set. Returns the kernel's Landlock
// ABI; Unimplemented without any.
absl::StatusOr<int> RestrictFiles(const FileAccess& access);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_LANDLOCK_H_

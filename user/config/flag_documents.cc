// What is told of the flags outside of the program, from the program's own table:
//   flag_documents man|bash|zsh|readme < TEMPLATE > DOCUMENT
// The line @FLAGS@ of the template becomes the flags. A README is its own template: the rows of its
// table of flags are made anew.

#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "user/config/config.h"
#include "user/config/flags.h"

namespace packet_headers {
namespace {

constexpr absl::string_view kPlaceholder = "@FLAGS@";
constexpr absl::string_view kReadmeRow = "| `-";

// Without its full stop.
absl::string_view FirstSentence(absl::string_view text) {
  const size_t end = text.find(". ");
  return text.substr(0, end == text.npos ? text.size() - 1 : end);
}

std::string Default(const Flag& flag) { return flag.type.get(Config()); }

// How shells complete a flag's value.
struct Completion {
  std::string bash;  // words to choose from, or <what else>
  std::string zsh;   // an action of _arguments
};

Completion CompletionOf(const Flag& flag) {
  const absl::string_view name = flag.type.placeholder;
  if (flag.is_boolean()) return {"true false", ""};
  if (flag.type.choices != nullptr) {
    const std::string words = absl::StrJoin(flag.type.choices(), " ");
    return {words, absl::StrCat("(", words, ")")};
  }
  if (name == "PATH" || name == "FILE") return {"<file>", "_files"};
  if (absl::StartsWith(name, "NAME")) return {"<interface>", "_net_interfaces"};
  if (name == "USER") return {"<user>", "_users"};
  return {"<other>", " "};
}

std::string EscapeRoff(absl::string_view text) {
  const std::string escaped =
      absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}, {"'", "\\(aq"}});
  return absl::StartsWith(escaped, ".") ? absl::StrCat("\\&", escaped) : escaped;
}

std::string ManPage() {
  std::string out = absl::StrCat(EscapeRoff(kFlagSyntax), "\n");
  absl::string_view group;
  for (const Flag& flag : Flags()) {
    if (flag.group != group) absl::StrAppend(&out, ".SS ", flag.group, "\n");
    group = flag.group;
    absl::StrAppend(&out, ".TP\n\\fB\\-", EscapeRoff(flag.name), "\\fR");
    if (!flag.is_boolean()) absl::StrAppend(&out, "=\\fI", EscapeRoff(flag.value_name()), "\\fR");
    const std::string value = Default(flag);
    absl::StrAppend(&out, "\n", EscapeRoff(flag.help), "\n.br\nDefault \\fB",
                    value.empty() ? "none" : EscapeRoff(value), "\\fR, environment \\fB",
                    EnvironmentName(flag.name), "\\fR.\n");
  }
  return out;
}

// Elements of an array.
std::string BashCompletion() {
  std::string out;
  for (const Flag& flag : Flags()) {
    absl::StrAppend(&out, "\t\t[", flag.name, "]='", CompletionOf(flag).bash, "'\n");
  }
  return out;
}

// Arguments of _arguments.
std::string ZshCompletion() {
  std::string out;
  for (const Flag& flag : Flags()) {
    const std::string about = absl::StrReplaceAll(
        FirstSentence(flag.help), {{"'", "'\\''"}, {"[", "\\["}, {"]", "\\]"}, {":", "\\:"}});
    absl::StrAppend(&out, "\t'*-", flag.name, flag.is_boolean() ? "" : "=", "[", about, "]");
    if (!flag.is_boolean()) absl::StrAppend(&out, ":value:", CompletionOf(flag).zsh);
    out += "' \\\n";
  }
  return out;
}

std::string ReadmeRows() {
  std::string out;
  for (const Flag& flag : Flags()) {
    if (!flag.is_common) continue;
    absl::StrAppend(&out, kReadmeRow, flag.name, "` | ", Default(flag), " | ",
                    FirstSentence(flag.help), " |\n");
  }
  return out;
}

bool Write(absl::string_view format, std::istream& in, std::ostream& out) {
  std::string flags;
  if (format == "man") flags = ManPage();
  if (format == "bash") flags = BashCompletion();
  if (format == "zsh") flags = ZshCompletion();
  if (format == "readme") flags = ReadmeRows();
  bool was_written = false;
  for (std::string line; std::getline(in, line);) {
    if (line != kPlaceholder && (format != "readme" || !absl::StartsWith(line, kReadmeRow))) {
      out << line << '\n';
    } else if (!was_written) {
      out << flags;
      was_written = true;
    }
  }
  return was_written && out.flush();
}

}  // namespace
}  // namespace packet_headers

int main(int argc, char** argv) {
  if (argc == 2 && packet_headers::Write(argv[1], std::cin, std::cout)) return EXIT_SUCCESS;
  std::cerr << "usage: flag_documents man|bash|zsh|readme < TEMPLATE > DOCUMENT\n"
               "TEMPLATE has a line @FLAGS@; a README, rows of flags.\n";
  return EXIT_FAILURE;
}

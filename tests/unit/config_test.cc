#include "user/config/config.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "tests/support/catch.h"
#include "user/config/flags.h"
#include "user/config/host_and_port.h"

namespace packet_headers {
namespace {

using Arguments = std::vector<const char*>;
using Environment = std::map<std::string, std::string>;

absl::StatusOr<CommandLine> Parse(const Arguments& args, const Environment& environment = {}) {
  return ParseCommandLine(args, [&environment](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

CommandLine MustParse(const Arguments& args, const Environment& environment = {}) {
  absl::StatusOr<CommandLine> result = Parse(args, environment);
  INFO("status: " << result.status());
  REQUIRE(result.ok());
  return *std::move(result);
}

// The line that the operator reads; empty when the command line is accepted.
std::string ErrorOf(const Arguments& args, const Environment& environment = {}) {
  const absl::Status status = Parse(args, environment).status();
  if (!status.ok()) CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK_FALSE(absl::StrContains(status.message(), "\n"));
  return std::string(status.message());
}

std::string ValidationErrorOf(const Arguments& args, const Environment& environment = {}) {
  const absl::Status status = Validate(MustParse(args, environment).config);
  if (!status.ok()) CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

std::map<std::string, std::string> ValuesOf(const Config& config) {
  std::map<std::string, std::string> values;
  for (const auto& [name, value] : FlagValues(config)) {
    INFO(name);
    CHECK(values.emplace(name, value).second);
  }
  return values;
}

const std::map<std::string, std::string> kDefaults = {
    {"anonymize.ip", "none"},
    {"anonymize.keyfile", ""},
    {"capture.engine", "auto"},
    {"capture.hook", "auto"},
    {"capture.ringsize", "32MB"},
    {"captureduration", "30s"},
    {"compress", "none"},
    {"datadir", "."},
    {"datadirmode", "0750"},
    {"durability", "sync"},
    {"eventsocket.mode", "0660"},
    {"eventsocket.serve", ""},
    {"filemode", "0640"},
    {"flows", "false"},
    {"flowtimeout", "30s"},
    {"health.patience", "10s"},
    {"http.expose", "metrics"},
    {"index", "true"},
    {"interface", ""},
    {"log.format", "text"},
    {"maxflows", "0"},
    {"maxheadersize", "256"},
    {"maxheap", "8GB"},
    {"maxidleram", "3GB"},
    {"prometheusx.listen-address", ":9990"},
    {"read", ""},
    {"sandbox", "auto"},
    {"sandbox.selftest", "false"},
    {"shards", "0"},
    {"sigtermwait", "1s"},
    {"stream", "false"},
    {"tcpinfo.eventsocket", ""},
    {"user", ""},
    {"uuid-prefix-file", ""},
    {"uuid.source", "auto"},
    {"uuids", ""},
    {"uuidwaitduration", "5s"},
    {"watch", "false"},
    {"write.all", "false"},
};

TEST_CASE("Without flags every value is the documented default", "[config]") {
  const CommandLine result = MustParse({});
  CHECK_FALSE(result.help_requested);
  CHECK(result.warnings.empty());
  CHECK(ValuesOf(result.config) == kDefaults);
  CHECK(Validate(result.config).ok());
}

TEST_CASE("Every flag reaches its own field and no other", "[config]") {
  struct Case {
    const char* flag;
    const char* text;
    const char* printed;
  };
  const std::vector<Case> cases = {
      {"anonymize.ip", "netblock", "netblock"},
      {"anonymize.keyfile", "/etc/key", "/etc/key"},
      {"capture.engine", "pcap", "pcap"},
      {"capture.hook", "clsact", "clsact"},
      {"capture.ringsize", "1000KB", "1MB"},
      {"captureduration", "90s", "1m30s"},
      {"compress", "zstd", "zstd"},
      {"datadir", "/var/spool", "/var/spool"},
      {"datadirmode", "0", "0000"},
      {"durability", "rename", "rename"},
      {"eventsocket.mode", "666", "0666"},
      {"eventsocket.serve", "/run/serve.sock", "/run/serve.sock"},
      {"filemode", "0777", "0777"},
      {"flows", "true", "true"},
      {"flowtimeout", "5000ms", "5s"},
      {"health.patience", "60s", "1m0s"},
      {"http.expose", "all", "all"},
      {"index", "F", "false"},
      {"interface", "eth0,eth1", "eth0,eth1"},
      {"log.format", "json", "json"},
      {"maxflows", "0x96", "150"},
      {"maxheadersize", "1_000", "1000"},
      {"maxheap", "2000MB", "2GB"},
      {"maxidleram", "1500MB", "1500MB"},
      {"prometheusx.listen-address", "127.0.0.1:1", "127.0.0.1:1"},
      {"read", "a.pcap", "a.pcap"},
      {"sandbox", "off", "off"},
      {"sandbox.selftest", "true", "true"},
      {"shards", "64", "64"},
      {"sigtermwait", "0", "0s"},
      {"stream", "T", "true"},
      {"tcpinfo.eventsocket", "/run/events.sock", "/run/events.sock"},
      {"user", "nobody", "nobody"},
      {"uuid-prefix-file", "/var/uuid", "/var/uuid"},
      {"uuid.source", "tcpinfo", "tcpinfo"},
      {"uuids", "events.jsonl", "events.jsonl"},
      {"uuidwaitduration", "1.5s", "1.5s"},
      {"watch", "t", "true"},
      {"write.all", "1", "true"},
  };
  CHECK(cases.size() == kDefaults.size());
  for (const Case& c : cases) {
    INFO(c.flag);
    std::map<std::string, std::string> expected = kDefaults;
    expected[c.flag] = c.printed;
    const std::string one_argument = absl::StrCat("-", c.flag, "=", c.text);
    CHECK(ValuesOf(MustParse({one_argument.c_str()}).config) == expected);
    CHECK(ValuesOf(MustParse({}, {{EnvironmentName(c.flag), c.text}}).config) == expected);
  }
}

TEST_CASE("Whoever logged in is not the user to become", "[config]") {
  CHECK(MustParse({}, {{"USER", "root"}}).config.user.empty());
}

TEST_CASE("Fields hold the values in their documented units", "[config]") {
  const Config config =
      MustParse({"-captureduration=1m", "-flowtimeout=2s", "-sigtermwait=3ms",
                 "-uuidwaitduration=4us", "-maxheap=5KB", "-maxidleram=6MB", "-capture.ringsize=7",
                 "-maxheadersize=8", "-maxflows=9", "-shards=10", "-anonymize.ip=netblock",
                 "-capture.hook=xdp", "-stream", "-interface=a", "-interface=b,c"})
          .config;
  CHECK(config.capture_duration == absl::Minutes(1));
  CHECK(config.flow_timeout == absl::Seconds(2));
  CHECK(config.sigterm_wait == absl::Milliseconds(3));
  CHECK(config.uuid_wait_duration == absl::Microseconds(4));
  CHECK(config.max_heap_bytes == 5'000);
  CHECK(config.max_idle_ram_bytes == 6'000'000);
  CHECK(config.ring_size_bytes == 7);
  CHECK(config.max_header_size == 8);
  CHECK(config.max_flows == 9);
  CHECK(config.shards == 10);
  CHECK(config.anonymize_ip == AnonymizeIp::kNetblock);
  CHECK(config.capture_hook == CaptureHook::kXdp);
  CHECK(config.stream);
  CHECK(config.interfaces == std::vector<std::string>{"a", "b", "c"});
  CHECK(MustParse({"-capture.hook=tcx"}).config.capture_hook == CaptureHook::kTcx);
  CHECK(MustParse({"-capture.hook=clsact"}).config.capture_hook == CaptureHook::kClsact);
}

TEST_CASE("The command line of M-Lab's deployment is read", "[config]") {
  const Config config =
      MustParse({"-datadir=/var/spool/ndt/pcap", "-tcpinfo.eventsocket=/var/local/tcpevents.sock",
                 "-stream=false", "-anonymize.ip=netblock", "-maxidleram=1500MB", "-maxheap=2GB",
                 "-flowtimeout=5s", "-maxflows=150"})
          .config;
  std::map<std::string, std::string> expected = kDefaults;
  expected["datadir"] = "/var/spool/ndt/pcap";
  expected["tcpinfo.eventsocket"] = "/var/local/tcpevents.sock";
  expected["anonymize.ip"] = "netblock";
  expected["maxidleram"] = "1500MB";
  expected["maxheap"] = "2GB";
  expected["flowtimeout"] = "5s";
  expected["maxflows"] = "150";
  CHECK(ValuesOf(config) == expected);
}

TEST_CASE("One or two dashes, an equals sign or a space", "[config]") {
  for (const Arguments& args : std::vector<Arguments>{{"-datadir=/d"},
                                                      {"--datadir=/d"},
                                                      {"-datadir", "/d"},
                                                      {"--datadir", "/d"},
                                                      {"-datadir=/c", "-datadir=/d"},
                                                      {"-datadir=/d", "--"}}) {
    CHECK(MustParse(args).config.data_dir == "/d");
  }
  // The value is whatever comes next, as in Go: another flag, "--", nothing, another "=".
  CHECK(MustParse({"-datadir", "-stream"}).config.data_dir == "-stream");
  CHECK_FALSE(MustParse({"-datadir", "-stream"}).config.stream);
  CHECK(MustParse({"-datadir", "--"}).config.data_dir == "--");
  CHECK(MustParse({"-datadir="}).config.data_dir.empty());
  CHECK(MustParse({"-datadir", ""}).config.data_dir.empty());
  CHECK(MustParse({"-datadir=a=b"}).config.data_dir == "a=b");
  CHECK(MustParse({"-datadir", "=b"}).config.data_dir == "=b");
  CHECK(MustParse({"-sigtermwait", "-0"}).config.sigterm_wait == absl::ZeroDuration());
}

TEST_CASE("A boolean flag takes its value only after an equals sign", "[config]") {
  CHECK(MustParse({"-stream"}).config.stream);
  CHECK(MustParse({"--stream"}).config.stream);
  CHECK(MustParse({"-stream=1"}).config.stream);
  CHECK_FALSE(MustParse({"-stream=F"}).config.stream);
  CHECK_FALSE(MustParse({"-stream", "-stream=false"}).config.stream);
  CHECK(MustParse({"-stream", "-datadir", "/d"}).config.data_dir == "/d");
  CHECK(ErrorOf({"-stream", "false"}) ==
        "unexpected argument 'false' (did you mean -stream=false?)");
  CHECK(ErrorOf({"-stream=no"}) ==
        "invalid value \"no\" for flag -stream: not a boolean (true or false)");
  CHECK(ErrorOf({"-stream="}) ==
        "invalid value \"\" for flag -stream: not a boolean (true or false)");
}

TEST_CASE("Interfaces add up, each once", "[config]") {
  using Names = std::vector<std::string>;
  CHECK(MustParse({"-interface=eth0"}).config.interfaces == Names{"eth0"});
  CHECK(MustParse({"-interface=eth1,eth0"}).config.interfaces == Names{"eth1", "eth0"});
  CHECK(MustParse({"-interface", "eth0", "-interface", "eth1"}).config.interfaces ==
        Names{"eth0", "eth1"});
  CHECK(MustParse({"-interface=a,b", "-interface=b", "-interface=a,c"}).config.interfaces ==
        Names{"a", "b", "c"});
  for (const char* argument : {"-interface=", "-interface=,", "-interface=eth0,",
                               "-interface=,eth0", "-interface=eth0,,eth1"}) {
    INFO(argument);
    CHECK(absl::StrContains(ErrorOf({argument}), "empty interface name"));
  }
}

TEST_CASE("What can't be read is refused in one line that names it", "[config]") {
  struct Case {
    Arguments args;
    std::string error;
  };
  const std::vector<Case> cases = {
      {{"-nonsense"}, "flag provided but not defined: -nonsense"},
      {{"--nonsense=1"}, "flag provided but not defined: -nonsense"},
      {{"-Stream"}, "flag provided but not defined: -Stream (did you mean -stream?)"},
      {{"-datadi"}, "flag provided but not defined: -datadi (did you mean -datadir?)"},
      {{"-interfaces=a"}, "flag provided but not defined: -interfaces (did you mean -interface?)"},
      {{"-flow-timeout", "5s"},
       "flag provided but not defined: -flow-timeout (did you mean -flowtimeout?)"},
      {{"-i", "eth0"}, "flag provided but not defined: -i"},
      {{"-a\nb"}, "flag provided but not defined: -a\\nb"},
      {{"-datadir"}, "flag needs an argument: -datadir"},
      {{"-stream", "--datadir"}, "flag needs an argument: -datadir"},
      {{"---datadir=x"}, "bad flag syntax: ---datadir=x"},
      {{"-=x"}, "bad flag syntax: -=x"},
      {{"--=x"}, "bad flag syntax: --=x"},
      {{"eth0"}, "unexpected argument 'eth0' (did you mean -interface=eth0?)"},
      {{"a.pcap.gz"}, "unexpected argument 'a.pcap.gz' (did you mean -read=a.pcap.gz?)"},
      {{"-stream", "eth0"}, "unexpected argument 'eth0' (did you mean -interface=eth0?)"},
      {{"--", "eth0"}, "unexpected argument 'eth0' (did you mean -interface=eth0?)"},
      {{"--", "-stream"}, "unexpected argument '-stream' (did you mean -interface=-stream?)"},
      {{"-interface=a", "eth0", "-nonsense"},
       "unexpected argument 'eth0' (did you mean -interface=eth0?)"},
      {{"-"}, "unexpected argument '-' (did you mean -interface=-?)"},
      {{""}, "unexpected argument ''"},
      {{"help"}, "unexpected argument 'help' (did you mean -help?)"},
      {{"flows"}, "unexpected argument 'flows' (did you mean -flows?)"},
      {{"-flows", "localhost:99"},
       "unexpected argument 'localhost:99' (did you mean "
       "-prometheusx.listen-address=localhost:99?)"},
      {{"-maxflows=many"}, "invalid value \"many\" for flag -maxflows: not an integer"},
      {{"-maxflows", ""}, "invalid value \"\" for flag -maxflows: not an integer"},
      {{"-maxflows=1\n2"}, "invalid value \"1\\n2\" for flag -maxflows: not an integer"},
      {{"-maxflows=9223372036854775808"},
       "invalid value \"9223372036854775808\" for flag -maxflows: out of range of a 64-bit "
       "integer"},
      {{"-captureduration=30"},
       "invalid value \"30\" for flag -captureduration: missing unit (ns, us, ms, s, m or h)"},
      {{"-maxheap=2gb"},
       "invalid value \"2gb\" for flag -maxheap: not a byte count such as 4096, 64KB, 1500MB or "
       "8GB"},
      {{"-anonymize.ip=all"},
       "invalid value \"all\" for flag -anonymize.ip: must be one of none, netblock, cryptopan"},
      {{"-anonymize.ip=None"},
       "invalid value \"None\" for flag -anonymize.ip: must be one of none, netblock, cryptopan"},
      {{"-capture.hook="},
       "invalid value \"\" for flag -capture.hook: must be one of auto, xdp, tcx, clsact"},
      {{"-shards=65"}, "invalid value \"65\" for flag -shards: must be 0 to 64"},
      {{"-shards=-1"}, "invalid value \"-1\" for flag -shards: must be 0 to 64"},
      {{"-uuid-prefix-file="}, "invalid value \"\" for flag -uuid-prefix-file: empty file name"},
  };
  for (const Case& c : cases) {
    CHECK(ErrorOf(c.args) == c.error);
  }
}

TEST_CASE("Help is found wherever Go would find it", "[config]") {
  for (const Arguments& args : std::vector<Arguments>{{"-help"},
                                                      {"--help"},
                                                      {"-h"},
                                                      {"--h"},
                                                      {"-help=false"},
                                                      {"-stream", "-h"},
                                                      {"-help", "-nonsense"},
                                                      {"-h", "eth0"}}) {
    CHECK(MustParse(args).help_requested);
  }
  // A mistake before it is told first; as a value it is a value; the environment does not matter.
  CHECK_FALSE(ErrorOf({"-nonsense", "-help"}).empty());
  CHECK_FALSE(MustParse({"-datadir", "-help"}).help_requested);
  CHECK(MustParse({"-help"}, {{"MAXFLOWS", "many"}}).help_requested);
  CHECK_FALSE(MustParse({}, {{"HELP", "1"}, {"H", "1"}}).help_requested);
}

TEST_CASE("The version is asked for like help", "[config]") {
  CHECK(MustParse({"-version"}).version_requested);
  CHECK(MustParse({"--version", "-nonsense"}).version_requested);
  CHECK_FALSE(MustParse({}, {{"VERSION", "1"}}).version_requested);
  CHECK(MustParse({"-version=t"}).version_requested);
  const CommandLine captures = MustParse({"-version=false", "-maxflows=7"});
  CHECK_FALSE(captures.version_requested);
  CHECK(captures.config.max_flows == 7);
  CHECK(ErrorOf({"-version=maybe"}) ==
        "invalid value \"maybe\" for flag -version: not a boolean (true or false)");
}

TEST_CASE("Files to read follow -read with or without it", "[config]") {
  using Files = std::vector<std::string>;
  CHECK(MustParse({"-read", "a"}).config.read_files == Files{"a"});
  CHECK(MustParse({"-read=a", "-read=b", "-read", "a"}).config.read_files == Files{"a", "b", "a"});
  CHECK(MustParse({"-read", "a", "b", "c"}).config.read_files == Files{"a", "b", "c"});
  CHECK(MustParse({"-read", "-", "b"}).config.read_files == Files{"-", "b"});
  CHECK(MustParse({"-read=a", "--", "-b", "--"}).config.read_files == Files{"a", "-b", "--"});
  const Config config = MustParse({"-read=a", "b", "-stream", "c", "-datadir=d"}).config;
  CHECK(config.read_files == Files{"a", "b", "c"});
  CHECK(config.stream);
  CHECK(config.data_dir == "d");
  CHECK(ErrorOf({"b", "-read=a"}) == "unexpected argument 'b' (did you mean -interface=b?)");
  CHECK(ErrorOf({"-read=a", "-stream", "false"}) ==
        "unexpected argument 'false' (did you mean -stream=false?)");
  CHECK(ErrorOf({"-read="}) == "invalid value \"\" for flag -read: empty file name");
}

TEST_CASE("What is for a live capture is refused with capture files", "[config]") {
  const auto error = [](const char* argument) {
    return std::string(Validate(MustParse({"-read=a", argument}).config).message());
  };
  CHECK(error("-interface=eth0") ==
        "-interface and -read exclude each other: files are not captured live (INTERFACE in the "
        "environment sets the flag, too)");
  for (const char* argument : {"-capture.engine=pcap", "-capture.hook=tcx", "-eventsocket.serve=x",
                               "-tcpinfo.eventsocket=x"}) {
    CHECK(absl::StrContains(error(argument), "-read exclude each other"));
  }
  CHECK(error("-uuid.source=socket") == "-uuid.source=socket: a capture file has no sockets");
  CHECK(error("-uuid.source=tcpinfo") ==
        "-uuid.source=tcpinfo needs -uuids: no flow would be saved without it");
  for (const char* argument : {"-uuids=events", "-write.all", "-stream", "-compress=gzip"}) {
    CHECK(error(argument).empty());
  }
}

TEST_CASE("Environment variables have the upper-case name of their flag", "[config]") {
  CHECK(EnvironmentName("datadir") == "DATADIR");
  CHECK(EnvironmentName("tcpinfo.eventsocket") == "TCPINFO_EVENTSOCKET");
  CHECK(EnvironmentName("prometheusx.listen-address") == "PROMETHEUSX_LISTEN_ADDRESS");
  CHECK(EnvironmentName("uuid-prefix-file") == "UUID_PREFIX_FILE");
}

TEST_CASE("The command line wins over the environment, with a warning", "[config]") {
  const CommandLine result = MustParse(
      {"-datadir=/args", "-stream"},
      {{"DATADIR", "/env"}, {"STREAM", "nonsense"}, {"MAXFLOWS", "7"}, {"UNRELATED", "x"}});
  CHECK(result.config.data_dir == "/args");
  CHECK(result.config.stream);
  CHECK(result.config.max_flows == 7);
  const std::vector<std::string> expected = {
      "-datadir=\"/args\" on the command line wins over DATADIR=\"/env\" in the environment",
      "-stream=\"true\" on the command line wins over STREAM=\"nonsense\" in the environment",
  };
  CHECK(result.warnings == expected);
  CHECK(MustParse({}, {{"DATADIR", "/env"}}).warnings.empty());
}

TEST_CASE("Interfaces of the command line replace those of the environment", "[config]") {
  using Names = std::vector<std::string>;
  CHECK(MustParse({}, {{"INTERFACE", "eth0,eth1"}}).config.interfaces == Names{"eth0", "eth1"});
  const CommandLine result =
      MustParse({"-interface=eth2", "-interface=eth3"}, {{"INTERFACE", "eth0,eth1"}});
  CHECK(result.config.interfaces == Names{"eth2", "eth3"});
  CHECK(result.warnings.size() == 1);
}

TEST_CASE("An environment variable that is set but empty is a value", "[config]") {
  CHECK(MustParse({}, {{"DATADIR", ""}}).config.data_dir.empty());
  CHECK(MustParse({}, {{"PROMETHEUSX_LISTEN_ADDRESS", ""}}).config.metrics_address.empty());
  CHECK(MustParse({}, {{"TCPINFO_EVENTSOCKET", ""}}).config.tcpinfo_event_socket.empty());
  for (const char* variable :
       {"ANONYMIZE_IP", "CAPTURE_HOOK", "CAPTURE_RINGSIZE", "CAPTUREDURATION", "FLOWTIMEOUT",
        "INTERFACE", "MAXFLOWS", "MAXHEADERSIZE", "MAXHEAP", "MAXIDLERAM", "SHARDS", "SIGTERMWAIT",
        "STREAM", "UUID_PREFIX_FILE", "UUIDWAITDURATION"}) {
    const std::string error = ErrorOf({}, {{variable, ""}});
    INFO(variable << ": " << error);
    CHECK(absl::StrContains(
        error, absl::StrCat("invalid value \"\" for environment variable ", variable, " ")));
  }
  CHECK(ErrorOf({}, {{"MAXFLOWS", "many"}}) ==
        "invalid value \"many\" for environment variable MAXFLOWS (flag -maxflows): not an "
        "integer");
}

TEST_CASE("Values that can't work are refused", "[config]") {
  struct Case {
    const char* argument;
    const char* error;
  };
  const std::vector<Case> cases = {
      {"-captureduration=-1s", "-captureduration=-1s must be more than 0"},
      {"-captureduration=0", "-captureduration=0s must be more than 0"},
      {"-flowtimeout=-1ns", "-flowtimeout=-1ns must be more than 0"},
      {"-flowtimeout=0", "-flowtimeout=0s must be more than 0"},
      {"-sigtermwait=-1s", "-sigtermwait=-1s is negative"},
      {"-uuidwaitduration=-1s", "-uuidwaitduration=-1s is negative"},
      {"-uuidwaitduration=30.000000001s",
       "-uuidwaitduration=30.000000001s is longer than -captureduration=30s; it must be at most "
       "that"},
      {"-maxflows=-1", "-maxflows=-1 must be at least 0"},
      {"-maxheap=1KB", "-maxheap=1KB must be at least 4MB"},
      {"-maxheap=0", "-maxheap=0GB must be at least 4MB"},
      {"-maxheadersize=0", "-maxheadersize=0 must be at least 1"},
      {"-maxheadersize=-1", "-maxheadersize=-1 must be at least 1"},
      {"-maxheadersize=262145", "-maxheadersize=262145 must be at most 262144"},
      {"-capture.ringsize=2147483649", "-capture.ringsize=2147483649B must be at most 2147483648B"},
      {"-health.patience=1999ms", "-health.patience=1.999s must be at least 2s"},
      {"-datadir=", "-datadir is empty; \".\" is the current directory"},
      {"-write.all", "-write.all is for capture files: name them with -read"},
      {"-uuids=events", "-uuids is for capture files: name them with -read"},
      {"-prometheusx.listen-address=9990",
       "-prometheusx.listen-address=9990: no port in it (did you mean :9990?)"},
      {"-prometheusx.listen-address=localhost",
       "-prometheusx.listen-address=localhost: no port in it (did you mean localhost:9990?)"},
      {"-prometheusx.listen-address=",
       "-prometheusx.listen-address=: no port in it (did you mean :9990?)"},
      {"-prometheusx.listen-address=:x",
       "-prometheusx.listen-address=:x: its port is no number from 0 to 65535"},
      {"-watch", "-watch is for -flows"},
      {"-uuid.source=tcpinfo",
       "-uuid.source=tcpinfo needs -tcpinfo.eventsocket: no flow would be saved without it"},
  };
  for (const Case& c : cases) {
    CHECK(ValidationErrorOf({c.argument}) == c.error);
  }
}

TEST_CASE("A default contradicts nothing that was set", "[config]") {
  CHECK(ValuesOf(MustParse({"-captureduration=2s"}).config)["uuidwaitduration"] == "2s");
  CHECK(ValidationErrorOf({"-captureduration=2s"}).empty());
  CHECK(ValidationErrorOf({}, {{"CAPTUREDURATION", "2s"}}).empty());
  CHECK(ValuesOf(MustParse({"-captureduration=6s"}).config)["uuidwaitduration"] == "5s");
  const char kError[] =
      "-uuidwaitduration=5s is longer than -captureduration=2s; it must be at most that";
  CHECK(ValidationErrorOf({"-captureduration=2s", "-uuidwaitduration=5s"}) == kError);
  CHECK(ValidationErrorOf({"-captureduration=2s"}, {{"UUIDWAITDURATION", "5s"}}) == kError);
}

TEST_CASE("A server's URL can be opened on its host", "[config]") {
  const auto url = [](const char* address) {
    return UrlOf(SplitHostAndPort(address).value().host, 80);
  };
  for (const char* any : {":9990", "0.0.0.0:9990", "[::]:9990"}) {
    CHECK(url(any) == "http://localhost:80/");
  }
  CHECK(url("127.0.0.1:9990") == "http://127.0.0.1:80/");
  CHECK(url("[::1]:9990") == "http://[::1]:80/");
  CHECK(url("host.example:0") == "http://host.example:80/");
}

TEST_CASE("Values at the edge of what can work are accepted", "[config]") {
  for (const char* argument :
       {"-uuidwaitduration=30s", "-captureduration=5s", "-uuidwaitduration=0", "-sigtermwait=0",
        "-flowtimeout=1ns", "-maxflows=0", "-maxheap=4MB", "-maxheadersize=1",
        "-maxheadersize=262144", "-capture.ringsize=0", "-capture.ringsize=2147483648", "-shards=0",
        "-shards=64", "-tcpinfo.eventsocket=", "-tcpinfo.eventsocket=/run/events.sock"}) {
    INFO(argument);
    CHECK(ValidationErrorOf({argument}).empty());
  }
}

TEST_CASE("The log of final values gives back the same configuration", "[config]") {
  const Config config = MustParse({"-stream", "-interface=eth0,eth1", "-captureduration=1h2m3.5s",
                                   "-maxheap=1001", "-anonymize.ip=netblock", "-capture.hook=tcx",
                                   "-datadir=/a b", "-uuid-prefix-file=/p", "-shards=3"})
                            .config;
  std::vector<std::string> printed;
  for (const auto& [name, value] : FlagValues(config)) {
    if (!value.empty()) printed.push_back(absl::StrCat("-", name, "=", value));
  }
  Arguments args;
  for (const std::string& argument : printed) args.push_back(argument.c_str());
  CHECK(ValuesOf(MustParse(args).config) == ValuesOf(config));
}

TEST_CASE("The help fits 80 columns and says everything about every flag", "[config]") {
  const std::string usage = Usage();
  for (absl::string_view line : absl::StrSplit(usage, '\n')) {
    INFO(line);
    CHECK(line.size() <= 80);
    CHECK_FALSE(absl::EndsWith(line, " "));
  }
  CHECK(absl::EndsWith(usage, "\n"));
  for (const auto& [name, value] : kDefaults) {
    INFO(name);
    const bool is_boolean = FindFlag(name)->is_boolean();
    const std::string start = absl::StrCat("\n  -", name, is_boolean ? "\n" : "=");
    const size_t begin = usage.find(start);
    REQUIRE(begin != std::string::npos);
    const std::string entry = usage.substr(begin, usage.find("\n\n", begin) - begin);
    CHECK(absl::StrContains(entry, absl::StrCat("\n      (default ", value.empty() ? "none" : value,
                                                "; environment ", EnvironmentName(name), ")")));
  }
  CHECK(absl::StrContains(usage, "\n  -help, -h\n"));
  CHECK(absl::StrContains(usage, "\n  -version\n"));
}

TEST_CASE("The help has each heading once", "[config]") {
  std::map<std::string, int> headings;
  for (const Flag& flag : Flags()) headings[std::string(flag.group)] = 0;
  for (absl::string_view line : absl::StrSplit(Usage(), '\n')) {
    const auto found = headings.find(std::string(absl::StripSuffix(line, ":")));
    if (found != headings.end()) ++found->second;
  }
  CHECK(headings.size() > 1);
  for (const auto& [heading, count] : headings) {
    INFO(heading);
    CHECK(count == 1);
  }
}

}  // namespace
}  // namespace packet_headers

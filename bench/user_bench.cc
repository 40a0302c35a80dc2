// user_bench [Google Benchmark's flags]: what the daemon's parts cost in user space, one shard
// each.
//
//   BENCH_HEADERS    a folder of pcap files, which are compressed
//   BENCH_DIRECTORY  where files are published; else beside this program

#include <benchmark/benchmark.h>

#include "user/base/heap.h"

int main(int argc, char** argv) {
  packet_headers::GrowHeapInLargeSteps();  // as the program does
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}

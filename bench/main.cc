// beryl-bench: benchmarks, load generation, parity checks and checkpoint making, as sub-commands.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "bench/decode_command.h"
#include "bench/kernels_command.h"
#include "bench/load_command.h"
#include "bench/make_checkpoint_command.h"
#include "bench/mock_group_command.h"
#include "bench/parity_command.h"
#include "bench/plot_command.h"
#include "bench/serve_command.h"
#include "bench/vision_command.h"

int main(int argc, char** argv) {
  CLI::App app("Benchmarks and checks of Beryl");
  app.require_subcommand(1);
  beryl::bench::add_parity_command(app);
  beryl::bench::add_decode_command(app);
  beryl::bench::add_prefill_command(app);
  beryl::bench::add_kernels_command(app);
  beryl::bench::add_vision_command(app);
  beryl::bench::add_serve_command(app);
  beryl::bench::add_load_command(app);
  beryl::bench::add_mock_group_command(app);
  beryl::bench::add_make_checkpoint_command(app);
  beryl::bench::add_plot_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Error& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    fmt::print(stderr, "beryl-bench: {}\n", error.what());
    return 1;
  }
  return 0;
}

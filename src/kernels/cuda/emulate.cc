// A program that runs one kernel on the CPU: `emulate KERNEL`. It reads 32-bit numbers from stdin (grid x and y, threads per
// block, 1 to run the threads backwards, number of arguments) and then each argument (its length, its bytes), and writes the
// contents of the arguments after the run to stdout.

#include "emulator.h"

#include "attention.cu"
#include "choose.cu"

#include <string>

static std::vector<std::vector<char>> arguments;

template <typename T>
static T* array(size_t i) {
  return reinterpret_cast<T*>(arguments[i].data());
}

template <typename T>
static T value(size_t i) {
  return *array<T>(i);
}

static u32 number() {
  u32 n = 0;
  if (fread(&n, sizeof n, 1, stdin) != 1) exit(2);
  return n;
}

int main(int, char** argv) {
  const std::string name = argv[1];
  const u32 x = number(), y = number(), threads = number(), backwards = number(), count = number();
  for (u32 i = 0; i < count; i++) {
    arguments.emplace_back(number());
    if (fread(arguments[i].data(), 1, arguments[i].size(), stdin) != arguments[i].size()) return 2;
  }
  emulator::launch({x, y}, threads, backwards, [&] {
    if (name == "rotate")
      rotate(array<float>(0), array<float>(1), array<float>(2), array<u32>(3), array<float>(4), value<u32>(5),
             value<u32>(6), value<u32>(7));
    if (name == "store")
      store(array<float>(0), array<float>(1), array<u32>(2), array<__half>(3), array<__half>(4), value<u32>(5));
    if (name == "attend")
      attend(array<float>(0), array<__half>(1), array<__half>(2), array<u32>(3), array<u32>(4), array<float>(5),
             value<u32>(6), value<u32>(7), value<u32>(8), value<float>(9), value<u32>(10));
    if (name == "choose") choose(array<float>(0), array<u32>(1), array<u32>(2), array<u32>(3), value<u32>(4));
  });
  for (const std::vector<char>& argument : arguments) fwrite(argument.data(), 1, argument.size(), stdout);
  return 0;
}

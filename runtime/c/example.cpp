// The same from C++, where handles and results free themselves: example_cpp MODEL
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

#include "samrefine.h"

struct Free {
    void operator()(samrefine *model) const { samrefine_close(model); }
    void operator()(samrefine_result *result) const { samrefine_free(result); }
};
using Model = std::unique_ptr<samrefine, Free>;
using Result = std::unique_ptr<samrefine_result, Free>;

Model open_model(const char *path)
{
    samrefine_options options = SAMREFINE_OPTIONS;
    samrefine_error error;
    samrefine *model = nullptr;
    options.threads = 2;
    if (samrefine_open(path, &options, &model, &error))
        throw std::runtime_error(error.message);
    return Model(model);
}

Result label(const samrefine *model, const samrefine_image &image)
{
    samrefine_error error;
    samrefine_result *result = nullptr;
    if (samrefine_label(model, &image, nullptr, 0, &result, &error))
        throw std::runtime_error(error.message);
    return Result(result);
}

int main(int count, char **arguments)
try {
    if (count != 2)
        throw std::runtime_error("Usage: example_cpp MODEL");
    Model model = open_model(arguments[1]);
    std::vector<uint8_t> pixels(3 * 64 * 48, 128);
    Result result = label(model.get(), {pixels.data(), 64, 48, 0});
    std::printf("%d x %d, %zu masks\n", result->width, result->height, result->mask_count);
    return 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "Error: %s\n", error.what());
    return 2;
}

/* libFuzzer on everything a caller can get wrong: options, files, images, masks.
 *
 *     GRAPHS=folder ./fuzz -max_total_time=600
 *
 * where the folder has label.onnx and refine.onnx and can be written to.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "samrefine.h"

static samrefine *label, *refine;
static char graph_path[4096], label_path[4096], refine_path[4096];
static uint8_t *seed_graph;
static size_t seed_size;

/* Bytes that are left of an input; 0 after its end. */
struct source {
    const uint8_t *data;
    size_t size;
};

static void
take(struct source *from, void *to, size_t size)
{
    size_t count = size < from->size ? size : from->size;
    memset(to, 0, size);
    if (count)
        memcpy(to, from->data, count);
    from->data += count;
    from->size -= count;
}

static uint8_t
take_byte(struct source *from)
{
    uint8_t byte;
    take(from, &byte, 1);
    return byte;
}

/* A call must say what it returns, and give a result if and only if it succeeds. */
static void
hold(int code, const samrefine_error *error, const void *result)
{
    if (!code != !!result || (code && (error->code != code || !error->message[0])))
        abort();
}

static void
open_with_options(struct source *from)
{
    static const char *const providers[] = {NULL, "cpu", "cuda", "tensorrt", "", "CPU"};
    double points[4];
    samrefine_options options = SAMREFINE_OPTIONS;
    samrefine_error error;
    samrefine *model = NULL;
    uint8_t which = take_byte(from);
    char text[16] = {0};
    take(from, points, sizeof points);
    take(from, &options.argmax, sizeof options - offsetof(samrefine_options, argmax));
    take(from, &options.device, sizeof options.device);
    options.threads = (int8_t)take_byte(from);
    options.points = which & 1 ? points : NULL;
    options.point_count = which & 2 ? take_byte(from) % 3 : 0;
    options.provider = providers[which / 4 % 6];
    if (which & 128)
        options.struct_size += (size_t)(int8_t)take_byte(from);
    take(from, text, sizeof text - 1);
    if (which & 64)
        options.provider = text;
    int code = samrefine_open(which % 5 ? refine_path : text, &options, &model, &error);
    hold(code, &error, model);
    if (!code) {
        uint8_t bytes[12] = {0, 1, 2, 3, 4, 255, 1, 1, 0, 0, 1, 1};
        samrefine_image image = {bytes, 3, 2, 0};
        samrefine_result *result = NULL;
        hold(samrefine_refine(model, &image, bytes + 6, 1, NULL, &result, &error), &error, result);
        samrefine_free(result);
    }
    samrefine_close(model);
}

/* Open refine.onnx with some bytes changed, or whatever the input is. */
static void
open_file(struct source *from)
{
    samrefine_error error;
    samrefine *model = NULL;
    FILE *file = fopen(graph_path, "wb");
    if (!file)
        abort();
    if (take_byte(from) & 1) {
        fwrite(from->data, 1, from->size, file);
    } else {
        uint8_t *copy = malloc(seed_size);
        memcpy(copy, seed_graph, seed_size);
        for (int i = 0; i < 4 && from->size; i++) {
            uint16_t at;
            take(from, &at, sizeof at);
            copy[at % seed_size] = take_byte(from);
        }
        fwrite(copy, 1, seed_size - take_byte(from) % seed_size, file);
        free(copy);
    }
    fclose(file);
    hold(samrefine_open(graph_path, NULL, &model, &error), &error, model);
    samrefine_close(model);
}

/* Call with an image in memory of exactly the size that it says it has. */
static void
call(struct source *from, int is_label)
{
    samrefine_error error;
    samrefine_result *result = NULL;
    samrefine_image image = {NULL, (int8_t)take_byte(from) % 24, (int8_t)take_byte(from) % 24, 0};
    size_t row = image.width > 0 ? (size_t)image.width * (is_label ? 3 : 1) : 0;
    size_t height = image.height > 0 ? (size_t)image.height : 0;
    image.stride = take_byte(from) % 80;
    size_t bytes = image.stride > row ? height * image.stride : height * row;
    size_t masks = take_byte(from) % 6, area = height * row;
    uint8_t *pixels = malloc(bytes + 1), *inside = malloc(masks * area + 8);
    float scores[6];
    take(from, pixels, bytes);
    take(from, scores, sizeof scores);
    take(from, inside, masks * area + 8);
    image.pixels = masks == 5 ? NULL : pixels;
    if (is_label)
        hold(samrefine_label(label, &image, masks & 1 ? inside : NULL, masks & 1 ? 8 : masks / 4,
                             &result, &error),
             &error, result);
    else
        hold(samrefine_refine(refine, &image, masks == 4 ? NULL : inside, masks,
                              masks & 1 ? scores : NULL, &result, &error),
             &error, result);
    samrefine_free(result);
    free(pixels);
    free(inside);
}

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerInitialize(int *count, char ***arguments)
{
    samrefine_options options = SAMREFINE_OPTIONS;
    const char *folder = getenv("GRAPHS");
    (void)count, (void)arguments;
    if (!folder)
        exit(2);
    snprintf(graph_path, sizeof graph_path, "%s/fuzzed.onnx", folder);
    snprintf(label_path, sizeof label_path, "%s/label.onnx", folder);
    snprintf(refine_path, sizeof refine_path, "%s/refine.onnx", folder);
    FILE *file = fopen(refine_path, "rb");
    seed_graph = malloc(1 << 16);
    seed_size = file ? fread(seed_graph, 1, 1 << 16, file) : 0;
    options.threads = 1;
    if (!seed_size || fclose(file) || samrefine_open(refine_path, &options, &refine, NULL) ||
        samrefine_open(label_path, &options, &label, NULL))
        exit(2);
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct source from = {data, size};
    uint8_t which = take_byte(&from) % 32;
    if (which == 0)
        call(&from, 1); /* a thousand times as slow as the others */
    else if (which < 8)
        open_with_options(&from);
    else if (which < 16)
        open_file(&from);
    else
        call(&from, 0);
    return 0;
}

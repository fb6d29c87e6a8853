/* Calls the library as tests ask: check COMMAND ARGUMENTS; each command says what it prints. */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "example_image.h"
#include "samrefine.h"

enum { THREADS = 4, CALLS = 3, WARM_UP = 20 };

static samrefine_error error;

static void
say(const char *what, int code)
{
    printf("%s: %d %s\n", what, code, code ? error.message : "");
    if (code && code != error.code)
        abort();
}

/* Leave with a message where a call fails that must not. */
static void
must(int code)
{
    if (code) {
        fprintf(stderr, "%d %s\n", code, error.message);
        exit(1);
    }
}

static samrefine *
opened(const char *path)
{
    samrefine_options options = SAMREFINE_OPTIONS;
    samrefine *model = NULL;
    options.threads = 2;
    must(samrefine_open(path, &options, &model, &error));
    return model;
}

/* Read an image into memory with a gap of `gap` bytes, none of them 0, after each row. */
static samrefine_image
read_image(const char *path, size_t gap)
{
    samrefine_image image = {0};
    uint8_t *pixels = example_read_image(path, &image.width, &image.height);
    size_t row = (size_t)image.width * 3;
    if (!pixels)
        exit(1);
    image.stride = row + gap;
    uint8_t *spaced = malloc(image.stride * (size_t)image.height);
    memset(spaced, 7, image.stride * (size_t)image.height);
    for (size_t y = 0; y < (size_t)image.height; y++)
        memcpy(spaced + y * image.stride, pixels + y * row, row);
    free(pixels);
    image.pixels = spaced;
    return image;
}

static void
free_image(samrefine_image *image)
{
    free((void *)(uintptr_t)image->pixels);
}

/* Write all fields that are there, one after the other, in the order of the header. */
static void
write_result(const char *path, const samrefine_result *result)
{
    size_t pixels = (size_t)result->width * (size_t)result->height, masks = result->mask_count;
    const struct {
        const void *data;
        size_t bytes;
    } fields[] = {
        {result->label, pixels},
        {result->pseudo_label, pixels},
        {result->probabilities, 4 * result->class_count},
        {result->boxes, 16 * masks},
        {result->scores, 4 * masks},
        {result->stability_scores, 4 * masks},
        {result->taken_by, masks},
        {result->mask_bits, masks * (size_t)result->height * result->mask_stride},
    };
    FILE *file = fopen(path, "wb");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].data && fwrite(fields[i].data, 1, fields[i].bytes, file) != fields[i].bytes)
            exit(1);
    fclose(file);
}

/* label|masks MODEL IMAGE GAP OUT [CLASS ...]: writes the result. */
static int
find(char **arguments, int count, int is_label)
{
    samrefine *model = opened(arguments[0]);
    samrefine_image image = read_image(arguments[1], (size_t)atoi(arguments[2]));
    samrefine_result *result = NULL;
    uint8_t given[256] = {0};
    size_t classes = 0;
    samrefine_classes(model, &classes);
    for (int i = 4; i < count; i++)
        given[atoi(arguments[i])] = 255;
    int is_given = count > 4;
    must(is_label ? samrefine_label(model, &image, is_given ? given : NULL, is_given ? classes : 0,
                                    &result, &error)
                  : samrefine_masks(model, &image, &result, &error));
    write_result(arguments[3], result);
    samrefine_free(result);
    samrefine_close(model);
    free_image(&image);
    return 0;
}

/* refine MODEL FILE WIDTH HEIGHT MASKS HAS_SCORES OUT: a file of pseudo label, masks and scores. */
static int
refine(char **arguments)
{
    samrefine *model = opened(arguments[0]);
    int32_t width = atoi(arguments[2]), height = atoi(arguments[3]);
    size_t masks = (size_t)atoi(arguments[4]), pixels = (size_t)width * (size_t)height;
    size_t bytes = pixels * (masks + 1);
    uint8_t *data = malloc(bytes + 1);
    float *scores = malloc(masks * sizeof(float) + 1);
    samrefine_result *result = NULL;
    FILE *file = fopen(arguments[1], "rb");
    if (!file || fread(data, 1, bytes, file) != bytes || fread(scores, 4, masks, file) != masks)
        return 1;
    fclose(file);
    samrefine_image label = {data, width, height, 0};
    must(samrefine_refine(model, &label, data + pixels, masks,
                          atoi(arguments[5]) ? scores : NULL, &result, &error));
    write_result(arguments[6], result);
    samrefine_free(result);
    samrefine_close(model);
    free(data);
    free(scores);
    return 0;
}

/* open MODEL STRUCT_SIZE PROVIDER THREADS ARGMAX POINT: prints what opening says. */
static int
try_open(char **arguments)
{
    samrefine_options options = SAMREFINE_OPTIONS;
    samrefine *model = NULL;
    double points[2] = {0.5, atof(arguments[5])};
    options.struct_size += (size_t)atol(arguments[1]);
    options.provider = arguments[2];
    options.threads = atoi(arguments[3]);
    options.argmax = atoi(arguments[4]);
    options.points = points;
    options.point_count = 1;
    say("open", samrefine_open(arguments[0], &options, &model, &error));
    samrefine_close(model);
    return 0;
}

/* calls FOLDER: prints what wrong calls say, one a line. */
static int
try_calls(char **arguments)
{
    samrefine *model = opened(arguments[0]), *none = NULL;
    samrefine_result *result = NULL;
    uint8_t bytes[4 * 4 * 3] = {0};
    const float score = 1;
    const samrefine_image good = {bytes, 4, 4, 0}, images[] = {
        {NULL, 4, 4, 0}, {bytes, 0, 4, 0}, {bytes, 4, -1, 0}, {bytes, 4, 4, 3},
        {bytes, 4, 4, SIZE_MAX}, {bytes, INT32_MAX, INT32_MAX, 0},
    };
    say("no path", samrefine_open(NULL, NULL, &none, &error));
    say("no model", samrefine_open(arguments[0], NULL, NULL, &error));
    say("no image", samrefine_masks(model, NULL, &result, &error));
    for (size_t i = 0; i < sizeof images / sizeof *images; i++) {
        say("label", samrefine_label(model, &images[i], NULL, 0, &result, &error));
        say("masks", samrefine_masks(model, &images[i], &result, &error));
        say("refine", samrefine_refine(model, &images[i], bytes, 1, &score, &result, &error));
        if (result)
            return 1;
    }
    say("closed", samrefine_label(NULL, &good, NULL, 0, &result, &error));
    say("no result", samrefine_masks(model, &good, NULL, &error));
    say("classes", samrefine_label(model, &good, bytes, 1, &result, &error));
    say("uncounted", samrefine_label(model, &good, bytes, 0, &result, &error));
    say("no masks", samrefine_refine(model, &good, NULL, 2, NULL, &result, &error));
    say("many masks", samrefine_refine(model, &good, bytes, SIZE_MAX, NULL, &result, &error));
    if (samrefine_label(NULL, &good, NULL, 0, &result, NULL) != SAMREFINE_ARGUMENT)
        return 1;
    samrefine_free(NULL);
    samrefine_close(NULL);
    samrefine_close(model);
    return 0;
}

/* classes MODEL: prints the version and the classes. */
static int
print_classes(char **arguments)
{
    samrefine *model = opened(arguments[0]);
    size_t count = 0;
    const char *const *classes = samrefine_classes(model, &count);
    printf("%s\n", samrefine_version());
    for (size_t i = 0; i < count; i++)
        printf("%s\n", classes[i]);
    samrefine_close(model);
    return 0;
}

struct shared {
    const samrefine *model;
    const samrefine_image *image;
    const samrefine_result *expected;
};

static void *
call_often(void *argument)
{
    const struct shared *shared = argument;
    const samrefine_result *expected = shared->expected;
    size_t pixels = (size_t)expected->width * (size_t)expected->height, differ = 0;
    for (int i = 0; i < CALLS; i++) {
        samrefine_error own;
        samrefine_result *result = NULL;
        if (samrefine_label(shared->model, shared->image, NULL, 0, &result, &own))
            return "failed";
        differ += result->mask_count != expected->mask_count ||
                  memcmp(result->label, expected->label, pixels) != 0;
        samrefine_free(result);
    }
    return differ ? "differs" : NULL;
}

/* threads MODEL IMAGE: labels an image in many threads; 0 if all labels are the same. */
static int
use_threads(char **arguments)
{
    samrefine *model = opened(arguments[0]);
    samrefine_image image = read_image(arguments[1], 5);
    samrefine_result *expected = NULL;
    pthread_t threads[THREADS];
    int failed = 0;
    must(samrefine_label(model, &image, NULL, 0, &expected, &error));
    struct shared shared = {model, &image, expected};
    for (int i = 0; i < THREADS; i++)
        failed |= pthread_create(&threads[i], NULL, call_often, &shared);
    for (int i = 0; i < THREADS; i++) {
        void *said = NULL;
        failed |= pthread_join(threads[i], &said) || said;
    }
    samrefine_free(expected);
    samrefine_close(model);
    free_image(&image);
    return failed;
}

static long
resident_kb(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        exit(1);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* memory MODEL IMAGE COUNT: prints the resident KB after some calls, and after COUNT more. Each
 * call is made with a handle that stays and, if it is small, one of its own. */
static int
hold_memory(char **arguments)
{
    samrefine *model = opened(arguments[0]);
    samrefine_image image = read_image(arguments[1], 0);
    uint8_t *masks = calloc((size_t)image.width * (size_t)image.height, 3);
    int is_label = samrefine_classes(model, NULL) != NULL;
    for (int i = 0; i < WARM_UP + atoi(arguments[2]); i++) {
        samrefine_result *result = NULL;
        samrefine *own = is_label ? NULL : opened(arguments[0]);
        must(is_label ? samrefine_label(model, &image, NULL, 0, &result, &error)
                      : samrefine_refine(own, &image, masks, 3, NULL, &result, &error));
        samrefine_free(result);
        samrefine_close(own);
        if (i == WARM_UP - 1)
            printf("%ld\n", resident_kb());
    }
    printf("%ld\n", resident_kb());
    free(masks);
    free_image(&image);
    samrefine_close(model);
    return 0;
}

/* starve MODEL: prints what a large image says where there is no memory for it. */
static int
starve(char **arguments)
{
    samrefine *model = opened(arguments[0]);
    samrefine_image image = {0};
    samrefine_result *result = NULL;
    long pages = 0;
    image.width = image.height = 9000;
    uint8_t *pixels = calloc(9000, 9000 * 3);
    image.pixels = pixels;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld", &pages) != 1)
        return 1;
    fclose(file);
    rlim_t most = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (200 << 20);
    if (setrlimit(RLIMIT_AS, &(struct rlimit){most, most}))
        return 1;
    say("label", samrefine_label(model, &image, NULL, 0, &result, &error));
    samrefine_close(model);
    free(pixels);
    return 0;
}

int
main(int count, char **arguments)
{
    static const struct {
        const char *name;
        int count;
        int (*run)(char **);
    } commands[] = {
        {"refine", 7, refine},        {"open", 6, try_open},       {"calls", 1, try_calls},
        {"classes", 1, print_classes}, {"threads", 2, use_threads}, {"memory", 3, hold_memory},
        {"starve", 1, starve},
    };
    if (count >= 6 && (!strcmp(arguments[1], "label") || !strcmp(arguments[1], "masks")))
        return find(arguments + 2, count - 2, arguments[1][0] == 'l');
    for (size_t i = 0; count > 1 && i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(arguments[1], commands[i].name) && count - 2 == commands[i].count)
            return commands[i].run(arguments + 2);
    return 2;
}

/* Label images: example MODEL IMAGE LABEL [IMAGE LABEL ...]
 *
 * MODEL is label.onnx or its folder; an IMAGE is a PNM, or a PNG or JPEG where this was built with
 * their libraries; a LABEL becomes a PGM of class numbers. Exit codes: 0 done, 1 an image failed and
 * the rest is done, 2 wrong use.
 */
#include <stdio.h>
#include <stdlib.h>

#include "example_image.h"
#include "samrefine.h"

/* Write a binary PGM. Returns 0 for success. */
static int
write_label(const char *path, const samrefine_result *result)
{
    size_t count = (size_t)result->width * (size_t)result->height;
    FILE *file = fopen(path, "wb");
    if (!file)
        return 1;
    fprintf(file, "P5\n%d %d\n255\n", (int)result->width, (int)result->height);
    int failed = fwrite(result->label, 1, count, file) != count;
    return fclose(file) || failed;
}

/* Print which classes are in the image, as "cat 0.97". */
static void
print_classes(const samrefine *model, const samrefine_result *result)
{
    size_t count = 0;
    const char *const *classes = samrefine_classes(model, &count);
    unsigned char present[256] = {0};
    for (size_t i = 0; i < (size_t)result->width * (size_t)result->height; i++)
        present[result->label[i]] = 1;
    for (size_t i = 0; i < count && i < 255; i++)
        if (present[i + 1])
            printf("  %s %.2f", classes[i], (double)result->probabilities[i]);
    printf("\n");
}

static int
label_file(const samrefine *model, const char *from, const char *to)
{
    samrefine_error error;
    samrefine_result *result = NULL;
    samrefine_image image = {NULL, 0, 0, 0};
    uint8_t *pixels = example_read_image(from, &image.width, &image.height);
    if (!pixels)
        return fprintf(stderr, "Error: %s is no image that this program reads\n", from), 1;
    image.pixels = pixels;
    int code = samrefine_label(model, &image, NULL, 0, &result, &error);
    free(pixels);
    if (code)
        return fprintf(stderr, "Error: %s: %s\n", from, error.message), 1;
    int failed = write_label(to, result);
    if (failed)
        fprintf(stderr, "Error: %s cannot be written\n", to);
    else
        printf("%s  %zu masks", to, result->mask_count), print_classes(model, result);
    samrefine_free(result);
    return failed;
}

int
main(int count, char **arguments)
{
    samrefine_options options = SAMREFINE_OPTIONS;
    samrefine_error error;
    samrefine *model = NULL;
    const char *threads = getenv("SAMREFINE_THREADS");
    if (count < 4 || count % 2)
        return fprintf(stderr, "Usage: example MODEL IMAGE LABEL [IMAGE LABEL ...]\n"), 2;
    options.threads = threads ? atoi(threads) : 0;
    if (samrefine_open(arguments[1], &options, &model, &error))
        return fprintf(stderr, "Error: %s\n", error.message), 2;
    int failed = 0;
    for (int i = 2; i < count; i += 2)
        failed |= label_file(model, arguments[i], arguments[i + 1]);
    samrefine_close(model);
    return failed;
}

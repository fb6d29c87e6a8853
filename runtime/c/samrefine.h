/* samrefine: an RGB image to a label map, through ONNX Runtime and nothing else.
 *
 *     samrefine *model = NULL;
 *     samrefine_error error;
 *     if (samrefine_open("bundle/label.onnx", NULL, &model, &error))
 *         return fprintf(stderr, "%s\n", error.message), 1;
 *
 *     samrefine_image image = {pixels, width, height, 0};
 *     samrefine_result *result = NULL;
 *     if (samrefine_label(model, &image, NULL, 0, &result, &error))
 *         return fprintf(stderr, "%s\n", error.message), 1;
 *     fwrite(result->label, 1, (size_t)width * height, file);
 *
 *     samrefine_free(result);
 *     samrefine_close(model);
 *
 * Returned:  0 for success, else a samrefine_code; nothing is created then, and `error`, where it is
 *            not NULL, holds the code and one line of text.
 * Memory:    what the caller gives is read during the call and never kept. Results are freed with
 *            samrefine_free, all before their handle is closed with samrefine_close.
 * Threads:   a handle does not change once it is open. Any number of threads may call with one
 *            handle at once, each with a result and an error of its own; the thread that closes it
 *            must be the last. There is no global state.
 * Graphs:    `samrefine export` writes them; docs/embedding.md says what they compute.
 */
#ifndef SAMREFINE_H
#define SAMREFINE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define SAMREFINE_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum samrefine_code {
    SAMREFINE_OK = 0,
    SAMREFINE_ARGUMENT = 1, /* an argument or an option is wrong */
    SAMREFINE_GRAPH = 2,    /* a graph is missing, damaged or of another kind */
    SAMREFINE_PROVIDER = 3, /* ONNX Runtime cannot start the execution provider */
    SAMREFINE_RUNTIME = 4,  /* ONNX Runtime is unfit or failed */
    SAMREFINE_MEMORY = 5    /* there is too little memory */
} samrefine_code;

typedef struct samrefine_error {
    int32_t code;
    char message[508]; /* UTF-8, ends in 0 */
} samrefine_error;

/* How to run graphs, and what takes the place of numbers in them. A number that is NAN, as all are
 * in SAMREFINE_OPTIONS, stays that of the graph, which is that of the bundle it was made from. */
typedef struct samrefine_options {
    size_t struct_size;   /* sizeof(samrefine_options): later versions add fields at the end */
    const char *provider; /* "cpu", "cuda" or "tensorrt"; NULL is "cpu" */
    int32_t device;       /* which GPU */
    int32_t threads;      /* of a call; 0: as many as there are cores */
    const double *points; /* XY in 0 to 1, the grid of prompts; NULL: the graph's */
    size_t point_count;
    int32_t argmax; /* 1: the method argmax, 0: max_iou_imp2, -1: the graph's */
    float pred_iou_thresh;
    float stability_score_thresh;
    float stability_score_offset;
    float box_nms_thresh;
    float background_score;
    float presence_threshold;
    float min_inside;
    float min_cover;
    float max_area_ratio;
    float min_trust;
} samrefine_options;

/* Initialises a samrefine_options: samrefine_options options = SAMREFINE_OPTIONS; */
#define SAMREFINE_OPTIONS                                                                        \
    {sizeof(samrefine_options), NULL, 0,   0,   NULL, 0,   -1,  NAN, NAN,                        \
     NAN,                       NAN,  NAN, NAN, NAN,  NAN, NAN, NAN}

/* Rows of bytes: three a pixel (RGB) in an image, one in a pseudo label. */
typedef struct samrefine_image {
    const uint8_t *pixels;
    int32_t width;
    int32_t height;
    size_t stride; /* bytes from one row to the next; 0: rows lie next to each other */
} samrefine_image;

/* What a graph has found; what it has no output for is NULL. The library makes results, so that
 * later versions can add fields at the end. */
typedef struct samrefine_result {
    int32_t width;
    int32_t height;
    size_t class_count;
    size_t mask_count;
    const uint8_t *label;          /* (height, width), 0 for background, v for the v-th class */
    const uint8_t *pseudo_label;   /* (height, width), the label before it was refined */
    const float *probabilities;    /* (class_count) */
    const int32_t *boxes;          /* (mask_count, 4) XYXY, right and bottom inclusive */
    const float *scores;           /* (mask_count), best first */
    const float *stability_scores; /* (mask_count) */
    const uint8_t *taken_by;       /* (mask_count), the class that has taken a mask, or 0 */
    const uint8_t *mask_bits;      /* (mask_count, height, mask_stride), the first pixel highest */
    size_t mask_stride;            /* (width + 7) / 8 */
} samrefine_result;

/* A model: the graphs of one file or folder. */
typedef struct samrefine samrefine;

/* Open graphs. `path` is a graph, if it ends in ".onnx", or a folder with one or more of label.onnx,
 * everything.onnx and refine.onnx, all of which are opened. `options` may be NULL. */
int samrefine_open(const char *path, const samrefine_options *options, samrefine **model,
                   samrefine_error *error);

/* Close a model; NULL is none. */
void samrefine_close(samrefine *model);

/* Label an RGB image with label.onnx. `image_labels` has a byte for each of the `class_count`
 * classes, not 0 where the class is in the image; NULL and 0 have them predicted. */
int samrefine_label(const samrefine *model, const samrefine_image *image,
                    const uint8_t *image_labels, size_t class_count, samrefine_result **result,
                    samrefine_error *error);

/* Find all masks of an RGB image with everything.onnx. */
int samrefine_masks(const samrefine *model, const samrefine_image *image, samrefine_result **result,
                    samrefine_error *error);

/* Refine a pseudo label with masks of any origin, with refine.onnx. `masks` has (mask_count, height,
 * width) bytes, not 0 inside; `scores` has one a mask, or is NULL if all are to be trusted. */
int samrefine_refine(const samrefine *model, const samrefine_image *pseudo_label,
                     const uint8_t *masks, size_t mask_count, const float *scores,
                     samrefine_result **result, samrefine_error *error);

/* Free a result; NULL is none. */
void samrefine_free(samrefine_result *result);

/* Return the names of label.onnx's classes in order, the model's own; NULL without that graph. */
const char *const *samrefine_classes(const samrefine *model, size_t *count);

/* Return the version of this library; SAMREFINE_VERSION is that of this header. */
const char *samrefine_version(void);

#ifdef __cplusplus
}
#endif

#endif

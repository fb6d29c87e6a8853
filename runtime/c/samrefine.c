/* Runs label.onnx, everything.onnx and refine.onnx; samrefine.h says how to use it. */
#include "samrefine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SAMREFINE_OFFICIAL_HEADERS
#include <onnxruntime_c_api.h>
#else
#include "ort_slots.h"
#endif

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])
#define FLOAT ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
#define UINT8 ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8
#define INT32 ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32
#define BOOL ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL
#define DOUBLE ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE

/* The oldest ONNX Runtime that reads what the exporter writes, and whose API is asked for. */
enum { OLDEST_RUNTIME = 18 };

enum { LABEL, EVERYTHING, REFINE, GRAPHS };
enum { IN_LABEL = 1 << LABEL, IN_EVERYTHING = 1 << EVERYTHING, IN_REFINE = 1 << REFINE };

static const char *const FILES[GRAPHS] = {"label.onnx", "everything.onnx", "refine.onnx"};
static const char *const FIRST_INPUTS[GRAPHS] = {"image", "image", "pseudo_label"};

/* Numbers that graphs take from the options, and which graphs those are. */
static const struct {
    const char *name;
    size_t field;
    unsigned graphs;
} NUMBERS[] = {
    {"pred_iou_thresh", offsetof(samrefine_options, pred_iou_thresh), IN_LABEL | IN_EVERYTHING},
    {"stability_score_thresh", offsetof(samrefine_options, stability_score_thresh),
     IN_LABEL | IN_EVERYTHING},
    {"stability_score_offset", offsetof(samrefine_options, stability_score_offset),
     IN_LABEL | IN_EVERYTHING},
    {"box_nms_thresh", offsetof(samrefine_options, box_nms_thresh), IN_LABEL | IN_EVERYTHING},
    {"background_score", offsetof(samrefine_options, background_score), IN_LABEL},
    {"presence_threshold", offsetof(samrefine_options, presence_threshold), IN_LABEL},
    {"min_inside", offsetof(samrefine_options, min_inside), IN_LABEL | IN_REFINE},
    {"min_cover", offsetof(samrefine_options, min_cover), IN_LABEL | IN_REFINE},
    {"max_area_ratio", offsetof(samrefine_options, max_area_ratio), IN_LABEL | IN_REFINE},
    {"min_trust", offsetof(samrefine_options, min_trust), IN_LABEL | IN_REFINE},
};

/* Outputs and the fields they become. Sides are height H, width W, its bytes B, classes C, masks M
 * or a digit; the first output with an M says how many masks there are. */
static const struct output {
    const char *name;
    ONNXTensorElementDataType type;
    const char *shape;
    size_t field;
    unsigned graphs;
} OUTPUTS[] = {
    {"label", UINT8, "HW", offsetof(samrefine_result, label), IN_LABEL | IN_REFINE},
    {"pseudo_label", UINT8, "HW", offsetof(samrefine_result, pseudo_label), IN_LABEL},
    {"probabilities", FLOAT, "C", offsetof(samrefine_result, probabilities), IN_LABEL},
    {"mask_bits", UINT8, "MHB", offsetof(samrefine_result, mask_bits), IN_EVERYTHING},
    {"boxes", INT32, "M4", offsetof(samrefine_result, boxes), IN_LABEL | IN_EVERYTHING},
    {"scores", FLOAT, "M", offsetof(samrefine_result, scores), IN_LABEL | IN_EVERYTHING},
    {"stability_scores", FLOAT, "M", offsetof(samrefine_result, stability_scores),
     IN_LABEL | IN_EVERYTHING},
    {"taken_by", UINT8, "M", offsetof(samrefine_result, taken_by), IN_LABEL | IN_REFINE},
};

enum { MOST_INPUTS = 4 + LENGTH(NUMBERS), MOST_RANK = 3 };

struct samrefine {
    const OrtApi *api;
    OrtEnv *env;
    OrtMemoryInfo *memory;
    OrtSession *sessions[GRAPHS]; /* NULL: not there */
    samrefine_options options;
    double *points;
    char *names; /* of classes, one after the other */
    const char **classes;
    size_t class_count;
};

/* A result and the tensors that its fields point into. */
struct owner {
    samrefine_result result;
    const OrtApi *api;
    OrtValue *values[LENGTH(OUTPUTS)];
};

/* One run of a graph: its inputs, which borrow the caller's memory, and what becomes its result. */
struct run {
    const samrefine *model;
    int graph;
    const char *names[MOST_INPUTS];
    OrtValue *inputs[MOST_INPUTS];
    size_t input_count;
    bool argmax;
    uint8_t *copies[2]; /* of inputs that ONNX Runtime cannot take as they lie */
    struct owner *owner;
    samrefine_error *error;
};

/* ---- Errors ---------------------------------------------------------------------------------- */

#ifdef __GNUC__
__attribute__((format(printf, 3, 4)))
#endif
static int
fail(samrefine_error *error, int code, const char *format, ...)
{
    if (error) {
        va_list arguments;
        error->code = code;
        va_start(arguments, format);
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
        /* ONNX Runtime's messages have several lines */
        for (char *at = error->message; *at; at++)
            if ((unsigned char)*at < ' ')
                *at = ' ';
    }
    return code;
}

static int
out_of_memory(samrefine_error *error)
{
    return fail(error, SAMREFINE_MEMORY, "there is too little memory");
}

/* Turn a status of ONNX Runtime into a code, and release it. */
static int
check(const OrtApi *api, OrtStatus *status, int code, const char *what, samrefine_error *error)
{
    if (!status)
        return SAMREFINE_OK;
    const char *message = api->GetErrorMessage(status);
    if (strstr(message, "bad_alloc") || strstr(message, "Failed to allocate") ||
        strstr(message, "out of memory"))
        code = SAMREFINE_MEMORY;
    fail(error, code, "%s: %s", what, message);
    api->ReleaseStatus(status);
    return code;
}

/* ---- ONNX Runtime ---------------------------------------------------------------------------- */

/* Compare type and shape of a tensor, and give its data. */
static int
read_tensor(const OrtApi *api, OrtValue *value, ONNXTensorElementDataType type, const char *name,
            size_t rank, int64_t *sides, void **data, samrefine_error *error)
{
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType found_type;
    size_t found_rank = 0;
    int code = check(api, api->GetTensorTypeAndShape(value, &info), SAMREFINE_RUNTIME, name, error);
    if (!code)
        code = check(api, api->GetTensorElementType(info, &found_type), SAMREFINE_RUNTIME, name,
                     error);
    if (!code)
        code = check(api, api->GetDimensionsCount(info, &found_rank), SAMREFINE_RUNTIME, name,
                     error);
    if (!code && (found_type != type || found_rank != rank))
        code = fail(error, SAMREFINE_GRAPH,
                    "%s has element type %d and %zu dimensions, expected %d and %zu", name,
                    (int)found_type, found_rank, (int)type, rank);
    if (!code)
        code = check(api, api->GetDimensions(info, sides, rank), SAMREFINE_RUNTIME, name, error);
    if (!code)
        code = check(api, api->GetTensorMutableData(value, data), SAMREFINE_RUNTIME, name, error);
    api->ReleaseTensorTypeAndShapeInfo(info);
    return code;
}

/* Try functions of the table on known answers: one out of place would do something else. */
static int
try_functions(const OrtApi *api, const OrtMemoryInfo *memory, samrefine_error *error)
{
    uint8_t bytes[6] = {0};
    const int64_t shape[3] = {1, 2, 3};
    int64_t sides[3] = {0};
    void *data = NULL;
    OrtValue *value = NULL;
    OrtStatus *status = api->CreateStatus(ORT_FAIL, "self-test");
    bool holds = api->GetErrorCode(status) == ORT_FAIL &&
                 strcmp(api->GetErrorMessage(status), "self-test") == 0;
    api->ReleaseStatus(status);
    int code = check(api,
                     api->CreateTensorWithDataAsOrtValue(memory, bytes, sizeof bytes, shape, 3,
                                                         UINT8, &value),
                     SAMREFINE_RUNTIME, "self-test", error);
    if (!code)
        code = read_tensor(api, value, UINT8, "self-test", 3, sides, &data, error);
    api->ReleaseValue(value);
    holds = holds && memcmp(sides, shape, sizeof shape) == 0 && data == bytes;
    if (!code && !holds)
        code = fail(error, SAMREFINE_RUNTIME, "ONNX Runtime %s has another API than expected",
                    OrtGetApiBase()->GetVersionString());
    return code;
}

/* Find ONNX Runtime's functions and create what all its sessions share. */
static int
start_runtime(samrefine *model, samrefine_error *error)
{
    const char *version = OrtGetApiBase()->GetVersionString();
    int major = 0, minor = 0;
    if (sscanf(version, "%d.%d", &major, &minor) != 2 || major != 1 || minor < OLDEST_RUNTIME)
        return fail(error, SAMREFINE_RUNTIME, "ONNX Runtime is %s, expected 1.%d or later", version,
                    OLDEST_RUNTIME);
    const OrtApi *api = OrtGetApiBase()->GetApi(OLDEST_RUNTIME);
    if (!api)
        return fail(error, SAMREFINE_RUNTIME, "ONNX Runtime %s has no API %d", version,
                    OLDEST_RUNTIME);
    /* Fatal errors alone are logged: others come as statuses */
    int code = check(api, api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "samrefine", &model->env),
                     SAMREFINE_RUNTIME, "ONNX Runtime cannot start", error);
    model->api = api;
    /* From 1.29 on it reports names of graphs over the network unless it is told not to */
    if (!code)
        code = check(api, api->DisableTelemetryEvents(model->env), SAMREFINE_RUNTIME,
                     "ONNX Runtime cannot start", error);
    if (!code)
        code = check(api,
                     api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &model->memory),
                     SAMREFINE_RUNTIME, "ONNX Runtime cannot start", error);
    return code ? code : try_functions(api, model->memory, error);
}

static int
append_cuda(const OrtApi *api, OrtSessionOptions *options, const char *device,
            samrefine_error *error)
{
    const char *key = "device_id", *what = "ONNX Runtime cannot use CUDA";
    OrtCUDAProviderOptionsV2 *provider = NULL;
    int code = check(api, api->CreateCUDAProviderOptions(&provider), SAMREFINE_PROVIDER, what, error);
    if (code)
        return code;
    code = check(api, api->UpdateCUDAProviderOptions(provider, &key, &device, 1),
                 SAMREFINE_PROVIDER, what, error);
    if (!code)
        code = check(api, api->SessionOptionsAppendExecutionProvider_CUDA_V2(options, provider),
                     SAMREFINE_PROVIDER, what, error);
    api->ReleaseCUDAProviderOptions(provider);
    return code;
}

static int
append_tensorrt(const OrtApi *api, OrtSessionOptions *options, const char *device,
                samrefine_error *error)
{
    const char *key = "device_id", *what = "ONNX Runtime cannot use TensorRT";
    OrtTensorRTProviderOptionsV2 *provider = NULL;
    int code =
        check(api, api->CreateTensorRTProviderOptions(&provider), SAMREFINE_PROVIDER, what, error);
    if (code)
        return code;
    code = check(api, api->UpdateTensorRTProviderOptions(provider, &key, &device, 1),
                 SAMREFINE_PROVIDER, what, error);
    if (!code)
        code = check(api, api->SessionOptionsAppendExecutionProvider_TensorRT_V2(options, provider),
                     SAMREFINE_PROVIDER, what, error);
    api->ReleaseTensorRTProviderOptions(provider);
    /* What TensorRT leaves over runs on CUDA */
    return code ? code : append_cuda(api, options, device, error);
}

/* Write the options into those of ONNX Runtime's sessions. */
static int
set_options(const OrtApi *api, const samrefine_options *from, OrtSessionOptions *to,
            samrefine_error *error)
{
    char device[16];
    const char *what = "ONNX Runtime refuses an option";
    int code = check(api, api->SetIntraOpNumThreads(to, from->threads), SAMREFINE_RUNTIME, what,
                     error);
    /* Memory patterns plan for fixed shapes; with ours they only hold memory */
    if (!code)
        code = check(api, api->DisableMemPattern(to), SAMREFINE_RUNTIME, what, error);
    /* Threads that wait for work leave the cores to the program */
    if (!code)
        code = check(api, api->AddSessionConfigEntry(to, "session.intra_op.allow_spinning", "0"),
                     SAMREFINE_RUNTIME, what, error);
    snprintf(device, sizeof device, "%d", (int)from->device);
    if (!code && from->provider && strcmp(from->provider, "cuda") == 0)
        code = append_cuda(api, to, device, error);
    if (!code && from->provider && strcmp(from->provider, "tensorrt") == 0)
        code = append_tensorrt(api, to, device, error);
    return code;
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* Take the options as far as the caller's version has them. */
static int
take_options(samrefine *model, const samrefine_options *given, samrefine_error *error)
{
    samrefine_options options = SAMREFINE_OPTIONS;
    if (given) {
        /* The first version had all fields up to min_trust */
        size_t first = offsetof(samrefine_options, min_trust) + sizeof(float);
        if (given->struct_size < first || given->struct_size > sizeof options)
            return fail(error, SAMREFINE_ARGUMENT,
                        "options.struct_size is %zu, expected %zu to %zu: set it to "
                        "sizeof(samrefine_options)",
                        given->struct_size, first, sizeof options);
        memcpy(&options, given, given->struct_size);
    }
    const char *provider = options.provider ? options.provider : "cpu";
    if (strcmp(provider, "cpu") && strcmp(provider, "cuda") && strcmp(provider, "tensorrt"))
        return fail(error, SAMREFINE_ARGUMENT,
                    "options.provider is \"%.40s\", expected cpu, cuda or tensorrt", provider);
    if (options.threads < 0 || options.device < 0 || options.argmax < -1 || options.argmax > 1)
        return fail(error, SAMREFINE_ARGUMENT,
                    "options have threads %d, device %d and argmax %d, expected none below 0 and "
                    "argmax -1 to 1",
                    (int)options.threads, (int)options.device, (int)options.argmax);
    if (!options.points != !options.point_count || options.point_count > SIZE_MAX / 32)
        return fail(error, SAMREFINE_ARGUMENT, "options have %zu points at %s", options.point_count,
                    options.points ? "an address" : "NULL");
    for (size_t i = 0; i < 2 * options.point_count; i++)
        if (!(options.points[i] >= 0 && options.points[i] <= 1))
            return fail(error, SAMREFINE_ARGUMENT, "options.points[%zu] is %g, expected 0 to 1", i,
                        options.points[i]);
    model->options = options;
    model->options.points = NULL;
    if (options.point_count) {
        size_t bytes = 2 * options.point_count * sizeof(double);
        if (!(model->points = malloc(bytes)))
            return out_of_memory(error);
        memcpy(model->points, options.points, bytes);
    }
    return SAMREFINE_OK;
}

/* Say whether a session has an input or output of this name. */
static bool
has(const OrtApi *api, const OrtSession *session, bool is_output, const char *name)
{
    OrtAllocator *allocator = NULL;
    size_t count = 0;
    bool found = false;
    if (check(api, api->GetAllocatorWithDefaultOptions(&allocator), 1, "", NULL) ||
        check(api,
              is_output ? api->SessionGetOutputCount(session, &count)
                        : api->SessionGetInputCount(session, &count),
              1, "", NULL))
        return false;
    for (size_t i = 0; i < count && !found; i++) {
        char *each = NULL;
        if (check(api,
                  is_output ? api->SessionGetOutputName(session, i, allocator, &each)
                            : api->SessionGetInputName(session, i, allocator, &each),
                  1, "", NULL))
            return false;
        found = strcmp(each, name) == 0;
        (void)check(api, api->AllocatorFree(allocator, each), 1, "", NULL);
    }
    return found;
}

static bool
is_graph(const OrtApi *api, const OrtSession *session, int graph)
{
    bool is = has(api, session, false, FIRST_INPUTS[graph]);
    for (size_t i = 0; i < LENGTH(OUTPUTS); i++)
        if (OUTPUTS[i].graphs & 1U << graph)
            is = is && has(api, session, true, OUTPUTS[i].name);
    return is;
}

/* Read the names of the classes from label.onnx: metadata `classes`, one a line. */
static int
read_classes(samrefine *model, const char *path, samrefine_error *error)
{
    const OrtApi *api = model->api;
    OrtAllocator *allocator = NULL;
    OrtModelMetadata *metadata = NULL;
    char *text = NULL;
    int code = check(api, api->GetAllocatorWithDefaultOptions(&allocator), SAMREFINE_GRAPH, path,
                     error);
    if (!code)
        code = check(api, api->SessionGetModelMetadata(model->sessions[LABEL], &metadata),
                     SAMREFINE_GRAPH, path, error);
    if (!code)
        code = check(api,
                     api->ModelMetadataLookupCustomMetadataMap(metadata, allocator, "classes",
                                                               &text),
                     SAMREFINE_GRAPH, path, error);
    if (!code && !text)
        code = fail(error, SAMREFINE_GRAPH, "%s has no metadata named classes", path);
    if (!code && !(model->names = malloc(strlen(text) + 1)))
        code = out_of_memory(error);
    if (!code)
        strcpy(model->names, text);
    if (text)
        (void)check(api, api->AllocatorFree(allocator, text), 1, "", NULL);
    if (metadata)
        api->ReleaseModelMetadata(metadata);
    if (code)
        return code;
    size_t count = 1;
    for (const char *at = model->names; *at; at++)
        count += *at == '\n';
    if (!(model->classes = malloc(count * sizeof *model->classes)))
        return out_of_memory(error);
    for (char *at = model->names; at; model->class_count++) {
        model->classes[model->class_count] = at;
        if ((at = strchr(at, '\n')))
            *at++ = 0;
    }
    return SAMREFINE_OK;
}

/* Open one file. `graph` is which it must be, or GRAPHS for any. */
static int
open_graph(samrefine *model, const char *path, int graph, samrefine_error *error)
{
    const OrtApi *api = model->api;
    OrtSessionOptions *options = NULL;
    OrtSession *session = NULL;
    int code = check(api, api->CreateSessionOptions(&options), SAMREFINE_RUNTIME, path, error);
    if (!code)
        code = set_options(api, &model->options, options, error);
    if (!code)
        code = check(api, api->CreateSession(model->env, path, options, &session), SAMREFINE_GRAPH,
                     path, error);
    if (options)
        api->ReleaseSessionOptions(options);
    if (code)
        return code;
    int kind = graph == GRAPHS ? 0 : graph, end = graph == GRAPHS ? GRAPHS : graph + 1;
    while (kind < end && !is_graph(api, session, kind))
        kind++;
    if (kind == end) {
        api->ReleaseSession(session);
        return fail(error, SAMREFINE_GRAPH, "%s is not what `samrefine export %s` writes", path,
                    graph == LABEL        ? "label"
                    : graph == EVERYTHING ? "everything"
                    : graph == REFINE     ? "refine"
                                          : "label|everything|refine");
    }
    model->sessions[kind] = session;
    return kind == LABEL ? read_classes(model, path, error) : SAMREFINE_OK;
}

/* Say whether a file can be read; errno says why not. */
static bool
is_readable(const char *path)
{
    FILE *file = fopen(path, "rb");
    return file && !fclose(file);
}

/* Open those graphs that a folder has. */
static int
open_folder(samrefine *model, const char *folder, samrefine_error *error)
{
    size_t size = strlen(folder) + sizeof "/everything.onnx";
    char *path = malloc(size);
    int code = path ? SAMREFINE_OK : out_of_memory(error);
    bool has_any = false;
    for (int graph = 0; graph < GRAPHS && !code; graph++) {
        snprintf(path, size, "%s/%s", folder, FILES[graph]);
        if (is_readable(path)) {
            has_any = true;
            code = open_graph(model, path, graph, error);
        } else if (errno != ENOENT) {
            code = fail(error, SAMREFINE_GRAPH, "%s: %s", path, strerror(errno));
        }
    }
    free(path);
    if (!code && !has_any)
        code = fail(error, SAMREFINE_GRAPH,
                    "%s has none of label.onnx, everything.onnx and refine.onnx: samrefine export "
                    "writes them",
                    folder);
    return code;
}

static int
open_path(samrefine *model, const char *path, samrefine_error *error)
{
    size_t length = strlen(path);
    if (length < 5 || strcmp(path + length - 5, ".onnx"))
        return open_folder(model, path, error);
    if (!is_readable(path))
        return fail(error, SAMREFINE_GRAPH, "%s: %s", path, strerror(errno));
    return open_graph(model, path, GRAPHS, error);
}

int
samrefine_open(const char *path, const samrefine_options *options, samrefine **model,
               samrefine_error *error)
{
    if (model)
        *model = NULL;
    if (!path || !model)
        return fail(error, SAMREFINE_ARGUMENT, "path and model must not be NULL");
    samrefine *opened = calloc(1, sizeof *opened);
    if (!opened)
        return out_of_memory(error);
    int code = take_options(opened, options, error);
    if (!code)
        code = start_runtime(opened, error);
    if (!code)
        code = open_path(opened, path, error);
    if (code)
        samrefine_close(opened);
    else
        *model = opened;
    return code;
}

void
samrefine_close(samrefine *model)
{
    if (!model)
        return;
    for (int graph = 0; graph < GRAPHS; graph++)
        if (model->sessions[graph])
            model->api->ReleaseSession(model->sessions[graph]);
    if (model->memory)
        model->api->ReleaseMemoryInfo(model->memory);
    if (model->env)
        model->api->ReleaseEnv(model->env);
    free(model->points);
    free(model->classes);
    free(model->names);
    free(model);
}

/* ---- Running --------------------------------------------------------------------------------- */

/* Add an input. Its tensor borrows `data` and is only read, whatever the type says. */
static int
feed(struct run *run, const char *name, const void *data, ONNXTensorElementDataType type,
     size_t item, size_t rank, const int64_t *sides)
{
    static const uint64_t nothing = 0;
    const OrtApi *api = run->model->api;
    size_t bytes = item;
    for (size_t i = 0; i < rank; i++) {
        if (sides[i] && bytes > SIZE_MAX / 2 / (size_t)sides[i])
            return fail(run->error, SAMREFINE_ARGUMENT, "%s is larger than memory", name);
        bytes *= (size_t)sides[i];
    }
    run->names[run->input_count] = name;
    return check(api,
                 api->CreateTensorWithDataAsOrtValue(
                     run->model->memory, (void *)(uintptr_t)(bytes ? data : &nothing), bytes, sides,
                     rank, type, &run->inputs[run->input_count++]),
                 SAMREFINE_RUNTIME, name, run->error);
}

/* Add those options that are given and that the graph takes. */
static int
feed_options(struct run *run)
{
    const samrefine_options *options = &run->model->options;
    unsigned graph = 1U << run->graph;
    int code = SAMREFINE_OK;
    for (size_t i = 0; i < LENGTH(NUMBERS) && !code; i++) {
        const float *number = (const void *)((const char *)options + NUMBERS[i].field);
        if (NUMBERS[i].graphs & graph && !isnan(*number))
            code = feed(run, NUMBERS[i].name, number, FLOAT, sizeof *number, 0, NULL);
    }
    if (!code && options->argmax >= 0 && run->graph != EVERYTHING) {
        run->argmax = options->argmax;
        code = feed(run, "argmax", &run->argmax, BOOL, sizeof run->argmax, 0, NULL);
    }
    if (!code && run->model->points && run->graph != REFINE)
        code = feed(run, "points", run->model->points, DOUBLE, sizeof(double), 2,
                    (const int64_t[]){(int64_t)options->point_count, 2});
    return code;
}

/* Add an image, copied if there are gaps between its rows. */
static int
feed_image(struct run *run, const samrefine_image *image, int64_t channels)
{
    const char *name = FIRST_INPUTS[run->graph];
    if (!image || !image->pixels)
        return fail(run->error, SAMREFINE_ARGUMENT, "%s must not be NULL", name);
    if (image->width < 1 || image->height < 1)
        return fail(run->error, SAMREFINE_ARGUMENT,
                    "%s is %d wide and %d high, expected at least 1 x 1", name, (int)image->width,
                    (int)image->height);
    const size_t height = (size_t)image->height;
    const size_t row = (size_t)image->width * (size_t)channels;
    const size_t stride = image->stride ? image->stride : row;
    if (row > SIZE_MAX / 2 / height)
        return fail(run->error, SAMREFINE_ARGUMENT, "%s is larger than memory", name);
    if (stride < row || stride > SIZE_MAX / 2 / height)
        return fail(run->error, SAMREFINE_ARGUMENT,
                    "%s has a stride of %zu bytes, expected at least %zu, or 0", name, stride, row);
    const uint8_t *pixels = image->pixels;
    if (stride != row) {
        if (!(run->copies[0] = malloc(height * row)))
            return out_of_memory(run->error);
        for (size_t y = 0; y < height; y++)
            memcpy(run->copies[0] + y * row, image->pixels + y * stride, row);
        pixels = run->copies[0];
    }
    run->owner->result.width = image->width;
    run->owner->result.height = image->height;
    return feed(run, name, pixels, UINT8, 1, channels == 1 ? 2 : 3,
                (const int64_t[]){image->height, image->width, channels});
}

/* Add bytes as truth values, which must be 0 or 1 for ONNX Runtime. */
static int
feed_truth(struct run *run, const char *name, const uint8_t *bytes, size_t rank,
           const int64_t *sides)
{
    size_t count = 1;
    for (size_t i = 0; i < rank; i++) {
        if (sides[i] && count > SIZE_MAX / 2 / (size_t)sides[i])
            return fail(run->error, SAMREFINE_ARGUMENT, "%s is larger than memory", name);
        count *= (size_t)sides[i];
    }
    uint8_t *copy = malloc(count ? count : 1);
    if (!copy)
        return out_of_memory(run->error);
    run->copies[1] = copy;
    for (size_t i = 0; i < count; i++)
        copy[i] = bytes[i] != 0;
    return feed(run, name, copy, BOOL, 1, rank, sides);
}

/* The side that a letter of an output's shape stands for; -1 for any. */
static int64_t
side_of(const struct run *run, char letter, bool knows_masks)
{
    const samrefine_result *result = &run->owner->result;
    switch (letter) {
    case 'H':
        return result->height;
    case 'W':
        return result->width;
    case 'B':
        return (int64_t)result->mask_stride;
    case 'C':
        return (int64_t)result->class_count;
    case 'M':
        return knows_masks ? (int64_t)result->mask_count : -1;
    default:
        return letter - '0';
    }
}

/* Point the result's fields at the outputs, once those have the shapes that it promises. */
static int
take_outputs(struct run *run)
{
    samrefine_result *result = &run->owner->result;
    bool knows_masks = run->graph == REFINE;
    for (size_t i = 0; i < LENGTH(OUTPUTS); i++) {
        const struct output *output = &OUTPUTS[i];
        OrtValue *value = run->owner->values[i];
        int64_t sides[MOST_RANK];
        void *data = NULL;
        if (!value)
            continue;
        int code = read_tensor(run->model->api, value, output->type, output->name,
                               strlen(output->shape), sides, &data, run->error);
        if (code)
            return code;
        for (size_t axis = 0; output->shape[axis]; axis++) {
            int64_t expected = side_of(run, output->shape[axis], knows_masks);
            if (expected >= 0 && sides[axis] != expected)
                return fail(run->error, SAMREFINE_GRAPH, "%s has length %lld in axis %zu, not %lld",
                            output->name, (long long)sides[axis], axis, (long long)expected);
        }
        if (output->shape[0] == 'M') {
            result->mask_count = (size_t)sides[0];
            knows_masks = true;
        }
        memcpy((char *)result + output->field, &data, sizeof data);
    }
    return SAMREFINE_OK;
}

/* Begin a run with no inputs yet. */
static int
begin(struct run *run, const samrefine *model, int graph, samrefine_result **result,
      samrefine_error *error)
{
    *run = (struct run){.model = model, .graph = graph, .error = error};
    if (result)
        *result = NULL;
    if (!model || !result)
        return fail(error, SAMREFINE_ARGUMENT, "model and result must not be NULL");
    if (!model->sessions[graph])
        return fail(error, SAMREFINE_GRAPH, "the model was opened without %s", FILES[graph]);
    if (!(run->owner = calloc(1, sizeof *run->owner)))
        return out_of_memory(error);
    run->owner->api = model->api;
    return SAMREFINE_OK;
}

/* Run the graph on what was fed. */
static int
compute(struct run *run)
{
    const OrtApi *api = run->model->api;
    const char *names[LENGTH(OUTPUTS)];
    OrtValue *values[LENGTH(OUTPUTS)] = {0};
    size_t count = 0;
    int code = feed_options(run);
    if (code)
        return code;
    for (size_t i = 0; i < LENGTH(OUTPUTS); i++)
        if (OUTPUTS[i].graphs & 1U << run->graph)
            names[count++] = OUTPUTS[i].name;
    code = check(api,
                 api->Run(run->model->sessions[run->graph], NULL, run->names,
                          (const OrtValue *const *)run->inputs, run->input_count, names, count,
                          values),
                 SAMREFINE_RUNTIME, FILES[run->graph], run->error);
    for (size_t i = LENGTH(OUTPUTS); i-- > 0;)
        if (OUTPUTS[i].graphs & 1U << run->graph)
            run->owner->values[i] = values[--count];
    return code ? code : take_outputs(run);
}

/* Release what a run has borrowed and copied, and hand over or free its result. */
static int
finish(struct run *run, int code, samrefine_result **result)
{
    for (size_t i = 0; i < run->input_count; i++)
        if (run->inputs[i])
            run->model->api->ReleaseValue(run->inputs[i]);
    free(run->copies[0]);
    free(run->copies[1]);
    if (!code)
        *result = &run->owner->result;
    else if (run->owner)
        samrefine_free(&run->owner->result);
    return code;
}

int
samrefine_label(const samrefine *model, const samrefine_image *image, const uint8_t *image_labels,
                size_t class_count, samrefine_result **result, samrefine_error *error)
{
    struct run run;
    int code = begin(&run, model, LABEL, result, error);
    if (!code)
        code = feed_image(&run, image, 3);
    if (!code && class_count != (image_labels ? model->class_count : 0))
        code = fail(error, SAMREFINE_ARGUMENT,
                    "class_count is %zu, expected %zu, or 0 with image_labels NULL", class_count,
                    model->class_count);
    if (!code && image_labels)
        code = feed_truth(&run, "image_labels", image_labels, 1,
                          (const int64_t[]){(int64_t)class_count});
    if (!code) {
        run.owner->result.class_count = model->class_count;
        code = compute(&run);
    }
    return finish(&run, code, result);
}

int
samrefine_masks(const samrefine *model, const samrefine_image *image, samrefine_result **result,
                samrefine_error *error)
{
    struct run run;
    int code = begin(&run, model, EVERYTHING, result, error);
    if (!code)
        code = feed_image(&run, image, 3);
    if (!code) {
        run.owner->result.mask_stride = ((size_t)image->width + 7) / 8;
        code = compute(&run);
    }
    return finish(&run, code, result);
}

int
samrefine_refine(const samrefine *model, const samrefine_image *pseudo_label, const uint8_t *masks,
                 size_t mask_count, const float *scores, samrefine_result **result,
                 samrefine_error *error)
{
    struct run run;
    int code = begin(&run, model, REFINE, result, error);
    if (!code)
        code = feed_image(&run, pseudo_label, 1);
    if (!code && ((mask_count && !masks) || mask_count > INT32_MAX))
        code = fail(error, SAMREFINE_ARGUMENT, "mask_count is %zu and masks is %s", mask_count,
                    masks ? "given" : "NULL");
    if (!code)
        code = feed_truth(&run, "masks", masks, 3,
                          (const int64_t[]){(int64_t)mask_count, pseudo_label->height,
                                            pseudo_label->width});
    if (!code && scores && mask_count)
        code = feed(&run, "scores", scores, FLOAT, sizeof *scores, 1,
                    (const int64_t[]){(int64_t)mask_count});
    if (!code) {
        run.owner->result.mask_count = mask_count;
        code = compute(&run);
    }
    return finish(&run, code, result);
}

void
samrefine_free(samrefine_result *result)
{
    if (!result)
        return;
    struct owner *owner = (struct owner *)(void *)result;
    for (size_t i = 0; i < LENGTH(OUTPUTS); i++)
        if (owner->values[i])
            owner->api->ReleaseValue(owner->values[i]);
    free(owner);
}

const char *const *
samrefine_classes(const samrefine *model, size_t *count)
{
    if (count)
        *count = model ? model->class_count : 0;
    return model ? model->classes : NULL;
}

const char *
samrefine_version(void)
{
    return SAMREFINE_VERSION;
}

/* A stand-in for CUDA's runtime library: the device's memory is the host's, and copies are at once.
   Addresses are as opaque as CUDA's to whoever uses it; what is allocated and freed is counted. */
#include <stdlib.h>
#include <string.h>

#define OUT_OF_MEMORY 2
#define INVALID 1
#define MOST 4096

int standin_devices = 1, standin_status = 0, standin_copies = 0;
size_t standin_limit = (size_t)1 << 40, standin_used = 0;

static void *addresses[MOST];
static size_t sizes[MOST];

int cudaGetDeviceCount(int *count) { *count = standin_devices; return standin_status; }

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    if (device != 0) return INVALID;
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
    return 0;
}

int cudaGetDeviceProperties(void *properties, int device) {
    if (device != 0) return INVALID;
    memset(properties, 0xAB, 1024);
    strcpy(properties, "Stand-in");
    return 0;
}

int cudaMalloc(void **address, size_t size) {
    if (size == 0 || standin_used + size > standin_limit) return size ? OUT_OF_MEMORY : INVALID;
    for (int i = 0; i < MOST; i++)
        if (!addresses[i]) {
            *address = addresses[i] = malloc(size);
            memset(*address, 0xCD, size);
            standin_used += sizes[i] = size;
            return 0;
        }
    return OUT_OF_MEMORY;
}

int cudaFree(void *address) {
    for (int i = 0; i < MOST; i++)
        if (address && addresses[i] == address) {
            memset(address, 0xDD, sizes[i]);
            free(address);
            standin_used -= sizes[i];
            addresses[i] = 0;
            return 0;
        }
    return INVALID;
}

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    const char *device = kind == 1 ? to : from;
    if (stream != (void *)0x5 || (kind != 1 && kind != 2)) return INVALID;
    /* The device's side must lie inside of what is allocated */
    for (int i = 0; i < MOST; i++) {
        const char *start = addresses[i];
        if (start && device >= start && device + size <= start + sizes[i]) {
            memcpy(to, from, size);
            standin_copies++;
            return 0;
        }
    }
    return INVALID;
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *free_bytes = standin_limit - standin_used;
    *total = standin_limit;
    return 0;
}

int cudaStreamCreate(void **stream) { *stream = (void *)0x5; return 0; }
int cudaStreamSynchronize(void *stream) { return stream == (void *)0x5 ? 0 : INVALID; }
const char *cudaGetErrorString(int status) { return status == 35 ? "driver too old" : "an error"; }

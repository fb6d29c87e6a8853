#ifndef SAMREFINE_EXAMPLE_IMAGE_H
#define SAMREFINE_EXAMPLE_IMAGE_H

#include <stdint.h>

/* Read an image as RGB bytes, rows next to each other; the caller frees them. NULL where it cannot
 * be read. EXAMPLE_PNG and EXAMPLE_JPEG build in what PNM alone leaves out. */
uint8_t *example_read_image(const char *path, int32_t *width, int32_t *height);

#endif

#include "example_image.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef EXAMPLE_PNG
#include <png.h>
#endif
#ifdef EXAMPLE_JPEG
#include <setjmp.h>

#include <jpeglib.h>
#endif

enum { LARGEST_SIDE = 65500 };

/* Allocate RGB pixels and say how large they are; NULL if no image is that large. */
static uint8_t *
new_pixels(unsigned long width, unsigned long height, int32_t *out_width, int32_t *out_height)
{
    if (width < 1 || height < 1 || width > LARGEST_SIDE || height > LARGEST_SIDE)
        return NULL;
    *out_width = (int32_t)width;
    *out_height = (int32_t)height;
    return malloc((size_t)width * height * 3);
}

/* Read the next number of a PNM's header, past white space and comments. 0 where there is none. */
static unsigned long
header_number(FILE *file)
{
    unsigned long number = 0;
    int c = fgetc(file);
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF)
                c = fgetc(file);
        c = fgetc(file);
    }
    for (; c >= '0' && c <= '9' && number < 1000000; c = fgetc(file))
        number = number * 10 + (unsigned long)(c - '0');
    return number;
}

/* Read a binary PPM (P6) or PGM (P5) of 8 bits. */
static uint8_t *
read_pnm(FILE *file, int32_t *width, int32_t *height)
{
    fgetc(file);
    int kind = fgetc(file);
    unsigned long w = header_number(file), h = header_number(file);
    if ((kind != '5' && kind != '6') || header_number(file) != 255)
        return NULL;
    uint8_t *pixels = new_pixels(w, h, width, height);
    size_t count = (size_t)w * h;
    if (pixels && fread(pixels, kind == '6' ? 3 : 1, count, file) != count) {
        free(pixels);
        return NULL;
    }
    /* Gray to RGB, from the end, as both lie in one array */
    for (size_t i = pixels && kind == '5' ? count : 0; i-- > 0;)
        pixels[3 * i] = pixels[3 * i + 1] = pixels[3 * i + 2] = pixels[i];
    return pixels;
}

#ifdef EXAMPLE_PNG
static uint8_t *
read_png(FILE *file, int32_t *width, int32_t *height)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    uint8_t *pixels = NULL;
    if (!png_image_begin_read_from_stdio(&image, file))
        return NULL;
    image.format = PNG_FORMAT_RGB;
    const png_color white = {255, 255, 255}; /* beneath transparent pixels */
    pixels = new_pixels(image.width, image.height, width, height);
    if (pixels && png_image_finish_read(&image, &white, pixels, 0, NULL))
        return pixels;
    png_image_free(&image);
    free(pixels);
    return NULL;
}
#endif

#ifdef EXAMPLE_JPEG
struct jpeg_errors {
    struct jpeg_error_mgr base; /* first: libjpeg hands this address back */
    jmp_buf jump;
};

static void
leave_jpeg(j_common_ptr info)
{
    longjmp(((struct jpeg_errors *)(void *)info->err)->jump, 1);
}

static void
say_nothing(j_common_ptr info)
{
    (void)info;
}

static uint8_t *
read_jpeg(FILE *file, int32_t *width, int32_t *height)
{
    struct jpeg_decompress_struct info;
    struct jpeg_errors errors;
    uint8_t *volatile pixels = NULL; /* kept over the jump */
    info.err = jpeg_std_error(&errors.base);
    errors.base.error_exit = leave_jpeg;
    errors.base.output_message = say_nothing;
    if (setjmp(errors.jump)) {
        jpeg_destroy_decompress(&info);
        free(pixels);
        return NULL;
    }
    jpeg_create_decompress(&info);
    jpeg_stdio_src(&info, file);
    jpeg_read_header(&info, TRUE);
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);
    pixels = new_pixels(info.output_width, info.output_height, width, height);
    while (pixels && info.output_scanline < info.output_height) {
        JSAMPROW row = pixels + (size_t)info.output_scanline * info.output_width * 3;
        jpeg_read_scanlines(&info, &row, 1);
    }
    if (pixels)
        jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
    return pixels;
}
#endif

uint8_t *
example_read_image(const char *path, int32_t *width, int32_t *height)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    uint8_t *pixels = NULL;
    int first = fgetc(file);
    rewind(file);
    if (first == 'P')
        pixels = read_pnm(file, width, height);
#ifdef EXAMPLE_PNG
    else if (first == 0x89)
        pixels = read_png(file, width, height);
#endif
#ifdef EXAMPLE_JPEG
    else if (first == 0xFF)
        pixels = read_jpeg(file, width, height);
#endif
    fclose(file);
    return pixels;
}

/* A prepared person as the kernels read it. Mirrored by models/warp/render/native.py. */
#ifndef AVATAR_LAYERS_H
#define AVATAR_LAYERS_H

#include "common.h"

/* Displacement fields over a coarse grid: models.warp.identity.Field, one layer. */
typedef struct {
    Grid grid;
    const float *fields; /* (count, rows, columns) */
    const float *hold;   /* (2, rows, columns): how far nodes follow in x and y; NULL: in full */
    int32_t count;
    float to_nodes[4];   /* (2, 2): from units of the face frame to nodes */
} Field;

/* What moves with the jaw, at one node: models.warp.build.jaw.jaw_sheet. */
typedef struct {
    float on_jaw, contact, fold;
} Jaw;

/* One eye: models.warp.identity.EyeLayers. Charts are in eye coordinates. */
typedef struct {
    Texture skin, skin_chroma;     /* Y; U, V: the photo around the eye */
    Texture shut, shut_chroma;     /* chart: Y of the shut eye and what catch-lights add; U, V */
    Texture ball, ball_chroma;     /* chart: Y; U, V of the eyeball */
    Texture lashes;                /* opacity over heights of LASH_RANGE, from the highest down */
    Texture glasses;               /* chart: opacity of their frames; data NULL without */
    float to_own[6], to_skin[6];   /* affine, rows: canvas pixels -> u, v -> texels of `skin` */
    float upper[3], lower[3];      /* edges of the lids: v = (1 - u^2) (a + b u + c u^2) */
    float room, ball_radius;       /* skin above the lash line that moves; eye units */
    float pixels;                  /* canvas pixels per eye unit */
    float lash[3];                 /* Y, U, V of the lashes */
    int32_t left, top, width, height; /* of the patch: pixels of the person's grid, even */
} Eye;

/* How an eye stands in one frame. */
typedef struct {
    float blink;          /* 0 open to 1 shut */
    float gaze_x, gaze_y; /* sine of the turn away from the photo's, right and down */
} Look;

/* A float for each pixel: (height, width). */
typedef struct {
    const float *data;
    int32_t width, height;
} Plane;

/* Lips and the inside of the mouth: models.warp.identity.MouthLayers. */
typedef struct {
    Texture luma;           /* Y of the lips, `texels` samples per pixel */
    Texture tint;           /* U, V, one sample a pixel: sample i the mean of pixels i and i + 1 */
    Plane depth;            /* pixels below the upper lip's edge, negative above it */
    Plane ramp;             /* opacity of the lower lip and jaw, not clamped */
    Texture inside[3];      /* upper teeth, lower teeth, tongue: Y, opacity, U, V */
    const float *blend;     /* opacity of the mouth's patch, (height, width) of its grid */
    float cavity[3], black[3]; /* Y, U, V of the dark, and of what the lips shade */
    float unit;             /* distance of the pupils in pixels */
    int32_t left, top;      /* canvas pixel of the first texel of the lips' textures */
    int32_t inside_left, inside_top; /* of the first texel of `inside` */
    int32_t texels, inside_texels;   /* samples per pixel */
} Mouth;

/* The whole person: models.warp.identity.WarpIdentity. */
typedef struct {
    Grid grid;
    Field neck, face;       /* `neck` over cells of twice the size; `face` over a part of `grid` */
    const float *opacity;   /* (rows, columns) of `grid` */
    const Jaw *jaw;         /* (rows, columns) of `face` */
    Texture luma, chroma;   /* the photo: Y, `texels` per pixel; U and V of 2 x 2 pixels */
    int32_t texels, lit_row;
    Eye eyes[2];
    Field lips[2];          /* upper, lower; of one grid */
    Field inside[3];        /* upper teeth, lower teeth, tongue; of one grid */
    Mouth mouth;
} Person;

/* One frame's motion. */
typedef struct {
    const float *weights; /* (2, fields) of all layers but `neck`, units of the face frame */
    const float *neck;    /* (2, fields) of `neck` */
    float contact, fold;  /* how dark a lowered jaw makes the neck; how much deeper folds get */
    int32_t parted;       /* whether anything of the mouth's inside can be seen */
    Look looks[2];
} Motion;

#endif

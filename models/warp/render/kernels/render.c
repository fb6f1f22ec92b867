/* One frame of one person: the order in which everything is painted. */
#include <time.h>

#include "layers.h"

#define FACE_ITERATIONS 4
#define NECK_ITERATIONS 2
#define LIP_ITERATIONS 6 /* lips that open wide stretch the skin in the corners several times */
#define LIP_STEP 0.8f
#define INSIDE_ITERATIONS 2 /* nothing in there bends: only the head's turn is to be undone */
#define MOST_FIELDS 64

void displace(const float *fields, int32_t count, int32_t nodes, const float *weights,
              int32_t outputs, const float *hold, float *out);
void invert(const float *moves, int32_t rows, int32_t columns, int32_t iterations, float step,
            float *source);
void refine(const Grid *coarse, const float *source, const Grid *fine, float *out);
void to_canvas(const Grid *grid, float *source);
void person_nodes(const Grid *grid, const float *still, const Grid *box, const float *moved,
                  const float *opacity, const Jaw *jaw, float contact, float fold, float *out);
void warp_luma(const Grid *grid, const float *nodes, const Texture *texture, int32_t texels,
               const Frame *frame);
void warp_chroma(const Grid *grid, const float *nodes, const Texture *texture,
                 const Frame *frame);
void paint_eye(const Grid *grid, const float *nodes, const Eye *eye, const Look *look,
               const Frame *frame);
void paint_mouth(const Grid *grid, const float *lips, const Grid *hole, const float *rigid,
                 const Grid *face, const float *person, const Mouth *mouth, const Frame *frame);
void shade(const Grid *grid, const float *nodes, int32_t first_row, const Frame *frame);

ALWAYS size_t nodes_of(const Grid *grid) {
    return (size_t)node_rows(grid) * node_columns(grid);
}

/* Sources of a field's nodes, as their indices, into `out` (2, nodes); `moves` is scratch. */
static void field_sources(const Field *field, const float *weights, int iterations, float step,
                          float *moves, float *out) {
    float own[2 * MOST_FIELDS];
    for (int k = 0; k < field->count; k++) {
        float x = weights[k], y = weights[field->count + k];
        own[k] = field->to_nodes[0] * x + field->to_nodes[1] * y;
        own[field->count + k] = field->to_nodes[2] * x + field->to_nodes[3] * y;
    }
    int rows = node_rows(&field->grid), columns = node_columns(&field->grid);
    displace(field->fields, field->count, rows * columns, own, 2, field->hold, moves);
    invert(moves, rows, columns, iterations, step, out);
}

/* Floats of scratch that render_frame needs for this person. */
KERNEL int64_t scratch_floats(const Person *person) {
    size_t grid = nodes_of(&person->grid), neck = nodes_of(&person->neck.grid);
    size_t face = nodes_of(&person->face.grid), lips = nodes_of(&person->lips[0].grid);
    size_t most = neck > face ? neck : face;
    most = most > lips ? most : lips;
    return (int64_t)(2 * (most + neck + grid + face) + 4 * grid + 4 * lips +
                     6 * nodes_of(&person->inside[0].grid));
}

/* What render_frame times: models.warp.render.renderer.STAGES. */
enum { NODES, LUMA, CHROMA, EYES, LIP_NODES, MOUTH, SHADES };

static int64_t now_ns(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Add the time since `since` to a stage, and begin the next one. */
static void stage_ends(int64_t *stages, int stage, int64_t *since) {
    if (!stages) return;
    int64_t now = now_ns();
    stages[stage] += now - *since;
    *since = now;
}

/* Paint `frame`, which holds the still background, with the person in the motion asked for.
 *
 * stages: nanoseconds of each stage are added to it; NULL where nobody wants to know. */
KERNEL void render_frame(const Person *person, const Motion *motion, float *scratch,
                         const Frame *frame, int64_t *stages) {
    int64_t since = stages ? now_ns() : 0;
    const Grid *grid = &person->grid, *mouth = &person->lips[0].grid;
    const Grid *hole = &person->inside[0].grid;
    size_t nodes = nodes_of(grid), lip_nodes = nodes_of(mouth), hole_nodes = nodes_of(hole);
    float *person_at = scratch;
    float *still = person_at + 4 * nodes;
    float *neck = still + 2 * nodes;
    float *moved = neck + 2 * nodes_of(&person->neck.grid);
    float *lips = moved + 2 * nodes_of(&person->face.grid);
    float *inside = lips + 4 * lip_nodes;
    float *moves = inside + 6 * hole_nodes;

    field_sources(&person->neck, motion->neck, NECK_ITERATIONS, 1.0f, moves, neck);
    refine(&person->neck.grid, neck, grid, still);
    field_sources(&person->face, motion->weights, FACE_ITERATIONS, 1.0f, moves, moved);
    person_nodes(grid, still, &person->face.grid, moved, person->opacity, person->jaw,
                 motion->contact, motion->fold, person_at);
    stage_ends(stages, NODES, &since);
    warp_luma(grid, person_at, &person->luma, person->texels, frame);
    stage_ends(stages, LUMA, &since);
    warp_chroma(grid, person_at, &person->chroma, frame);
    stage_ends(stages, CHROMA, &since);

    for (int i = 0; i < 2; i++)
        paint_eye(grid, person_at, &person->eyes[i], &motion->looks[i], frame);
    stage_ends(stages, EYES, &since);

    for (int i = 0; i < 2; i++) {
        float *source = lips + 2 * lip_nodes * i;
        field_sources(&person->lips[i], motion->weights, LIP_ITERATIONS, LIP_STEP, moves, source);
        to_canvas(mouth, source);
    }
    for (int i = 0; motion->parted && i < 3; i++) {
        float *source = inside + 2 * hole_nodes * i;
        field_sources(&person->inside[i], motion->weights, INSIDE_ITERATIONS, 1.0f, moves, source);
        to_canvas(hole, source);
    }
    stage_ends(stages, LIP_NODES, &since);
    paint_mouth(mouth, lips, hole, motion->parted ? inside : NULL, grid, person_at,
                &person->mouth, frame);
    stage_ends(stages, MOUTH, &since);
    shade(grid, person_at, person->lit_row, frame);
    stage_ends(stages, SHADES, &since);
}

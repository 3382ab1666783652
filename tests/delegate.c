/* An external TFLite delegate for tests: it claims float32 FULLY_CONNECTED nodes, and those of a model compiled for an
 * Edge TPU (custom operator "edgetpu-custom-op", of the same inputs here), and works or fails as a file says.
 *
 * The file is named by KINWATCH_TEST_DELEGATE and read anew at each step, so that a test changes its mind at any time.
 * The structs are those of tflite/core/c/common.h as the pinned runtime has them, cut after the last field used where
 * nobody makes one by its size.
 */
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, ERROR = 1, FULLY_CONNECTED = 9, CUSTOM = 32, FLOAT32 = 1, ALLOW_DYNAMIC_TENSORS = 1, MOST_NODES = 64 };

typedef struct { int size; int data[]; } IntArray;

typedef struct {
    int type;
    void *data;
    IntArray *dims;
    struct { float scale; int32_t zero_point; } params;
    int allocation_type;
    size_t bytes;
    const void *allocation;
    const char *name;
    void *delegate;
    int buffer_handle;
    bool data_is_stale, is_variable;
    struct { int type; void *params; } quantization;
    void *sparsity;
    const IntArray *dims_signature;
} Tensor;

typedef struct {
    IntArray *inputs, *outputs, *intermediates, *temporaries;
    void *user_data;
} Node;

typedef struct Context Context;
typedef struct Delegate Delegate;

typedef struct {
    void *(*init)(Context *, const char *, size_t);
    void (*free)(Context *, void *);
    int (*prepare)(Context *, Node *);
    int (*invoke)(Context *, Node *);
    const char *(*profiling_string)(const Context *, const Node *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *external;
    void *async_kernel;
    uint64_t inplace_operator;
} Registration;

struct Context {
    size_t tensors_size;
    int (*GetExecutionPlan)(Context *, IntArray **);
    Tensor *tensors;
    void *impl;
    int (*ResizeTensor)(Context *, Tensor *, IntArray *);
    void (*ReportError)(Context *, const char *, ...);
    int (*AddTensors)(Context *, int, int *);
    int (*GetNodeAndRegistration)(Context *, int, Node **, Registration **);
    int (*ReplaceNodeSubsetsWithDelegateKernels)(Context *, Registration, const IntArray *, Delegate *);
};

struct Delegate {
    void *data;
    int (*Prepare)(Context *, Delegate *);
    int (*CopyFromBufferHandle)(Context *, Delegate *, int, Tensor *);
    int (*CopyToBufferHandle)(Context *, Delegate *, int, Tensor *);
    void (*FreeBufferHandle)(Context *, Delegate *, int *);
    int64_t flags;
    void *builder;
};

typedef struct { Delegate *delegate; IntArray *nodes, *inputs, *outputs; } Params;
typedef struct { int count; Node nodes[MOST_NODES]; } Kernel;

static bool told(const char *mode) {
    char said[64] = "";
    const char *path = getenv("KINWATCH_TEST_DELEGATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file) {
        if (!fgets(said, sizeof said, file)) said[0] = 0;
        fclose(file);
    }
    said[strcspn(said, "\n")] = 0;
    return strcmp(said, mode) == 0;
}

static void fail_as_told(const char *at) {
    char mode[64];
    snprintf(mode, sizeof mode, "aborts at %s", at);
    if (told(mode)) {
        fprintf(stderr, "F driver/usb/usb_driver.cc:834] transfer on tag 2 failed. Abort.\n");
        abort();
    }
    snprintf(mode, sizeof mode, "hangs at %s", at);
    if (told(mode)) for (;;) pause();
    snprintf(mode, sizeof mode, "spins at %s", at);
    if (told(mode)) for (volatile int i = 0;; i++) {}
}

static void *init(Context *context, const char *buffer, size_t length) {
    (void)length;
    const Params *params = (const Params *)buffer;
    Kernel *kernel = calloc(1, sizeof *kernel);
    for (int i = 0; i < params->nodes->size && i < MOST_NODES; i++) {
        Node *node;
        Registration *registration;
        context->GetNodeAndRegistration(context, params->nodes->data[i], &node, &registration);
        kernel->nodes[kernel->count++] = *node;
    }
    return kernel;
}

static void release(Context *context, void *kernel) { (void)context; free(kernel); }

static int prepare(Context *context, Node *node) { (void)context; (void)node; return OK; }

static void multiply(Context *context, const Node *node) {
    const Tensor *input = &context->tensors[node->inputs->data[0]], *weights = &context->tensors[node->inputs->data[1]];
    int bias_index = node->inputs->size > 2 ? node->inputs->data[2] : -1;
    const float *in = input->data, *w = weights->data, *bias = bias_index < 0 ? NULL : context->tensors[bias_index].data;
    float *out = context->tensors[node->outputs->data[0]].data;
    int rows = weights->dims->data[0], columns = weights->dims->data[1];
    for (int row = 0; row < rows; row++) {
        out[row] = bias ? bias[row] : 0;
        for (int column = 0; column < columns; column++) out[row] += w[row * columns + column] * in[column];
    }
    if (told("gives other answers")) out[0] = -out[0] - 3;
    if (told("gives no number")) out[0] = 0.0f / 0.0f;
}

static int invoke(Context *context, Node *node) {
    fail_as_told("invoke");
    if (told("refuses at invoke")) {
        context->ReportError(context, "the device is gone");
        return ERROR;
    }
    if (told("talks")) for (int i = 0; i < 20000; i++) {
        printf("a delegate that prints %d\n", i);
        fprintf(stderr, "a delegate that prints %d\n", i);
    }
    const Kernel *kernel = node->user_data;
    for (int i = 0; i < kernel->count; i++) multiply(context, &kernel->nodes[i]);
    return OK;
}

static bool claims(const Context *context, const Node *node, const Registration *registration) {
    if (registration->builtin_code == CUSTOM)
        return registration->custom_name && !strcmp(registration->custom_name, "edgetpu-custom-op");
    return registration->builtin_code == FULLY_CONNECTED && context->tensors[node->inputs->data[0]].type == FLOAT32;
}

static int prepare_graph(Context *context, Delegate *delegate) {
    IntArray *plan, *claimed;
    if (told("claims nothing")) return OK;
    if (context->GetExecutionPlan(context, &plan) != OK) return ERROR;
    claimed = malloc(sizeof *claimed + sizeof(int) * plan->size);
    claimed->size = 0;
    for (int i = 0; i < plan->size; i++) {
        Node *node;
        Registration *registration;
        if (context->GetNodeAndRegistration(context, plan->data[i], &node, &registration) != OK) return ERROR;
        if (claims(context, node, registration)) claimed->data[claimed->size++] = plan->data[i];
    }
    Registration kernel = {.init = init, .free = release, .prepare = prepare, .invoke = invoke,
                           .custom_name = "TestDelegate", .version = 1};
    int status = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, claimed, delegate);
    free(claimed);
    return status;
}

Delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values, size_t count,
                                        void (*report)(const char *)) {
    (void)keys; (void)values; (void)count;
    fail_as_told("create");
    if (told("fails at create")) {
        report("no device was found");
        return NULL;
    }
    Delegate *delegate = calloc(1, sizeof *delegate);
    delegate->Prepare = prepare_graph;
    delegate->flags = ALLOW_DYNAMIC_TENSORS; /* else the runtime prepares the custom operator before anybody claims it */
    return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }

/* Loads copies of the plugin and follows a script, one step per argument:
 *
 *   +N PATH   load copy N from PATH          -N        unload it
 *   lN        have it listen for SIGUSR1     sN        have it stop
 *   h         install a handler of the host that calls no other
 *   r         raise SIGUSR1
 *   =XYZ      check the notifications: a digit for each of copies 0 to 2, then the host's handler; a dot for
 *             those that are not checked
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *library[3];
static volatile sig_atomic_t notified;

static void on_signal(int signum) {
    (void)signum;
    notified = 1;
}

static void *find(int copy, const char *name) {
    void *symbol = dlsym(library[copy], name);
    if (symbol == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    return symbol;
}

static void check(int condition, const char *step) {
    if (!condition) {
        fprintf(stderr, "failed at step %s\n", step);
        exit(1);
    }
}

static void check_heard(const char *step) {
    for (int who = 0; step[1 + who] != '\0'; who++) {
        if (step[1 + who] == '.') {
            continue;
        }
        int has_heard = who == 3 ? notified : ((int (*)(void))find(who, "plugin_take"))();
        if (who == 3) {
            notified = 0;
        }
        check(has_heard == step[1 + who] - '0', step);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *step = argv[i];
        int copy = step[0] != '\0' && step[1] != '\0' ? step[1] - '0' : 0;
        switch (step[0]) {
        case '+':
            library[copy] = dlopen(argv[++i], RTLD_NOW | RTLD_LOCAL);
            check(library[copy] != NULL, step);
            break;
        case '-':
            check(dlclose(library[copy]) == 0, step);
            break;
        case 'l':
            check(((int (*)(int))find(copy, "plugin_listen"))(SIGUSR1) == 0, step);
            break;
        case 's':
            ((void (*)(void))find(copy, "plugin_stop"))();
            break;
        case 'h': {
            struct sigaction action = {.sa_handler = on_signal};
            check(sigaction(SIGUSR1, &action, NULL) == 0, step);
            break;
        }
        case 'r':
            raise(SIGUSR1);
            break;
        case '=':
            check_heard(step);
            break;
        default:
            check(0, step);
        }
    }
    return 0;
}

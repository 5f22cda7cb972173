/* polyloop inside a GLib program, such as any GTK application.
 *
 * cc host_glib.c -o host_glib $(pkg-config --cflags --libs glib-2.0) -L target/release -lpolyloop_inside_c
 *
 * GLib watches polyloop's descriptor, and calls plugin_turn when it is readable. A thread uses the echo
 * server on polyloop, while a clock on each loop ticks.
 */

#include <arpa/inet.h>
#include <glib-unix.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int plugin_start(void);
int plugin_turn(void);
int plugin_port(void);
int plugin_ticks(void);
void plugin_stop(void);

static GMainLoop *loop;
static int n_turns;
static int n_beats;
static int n_echoes;

/* This is all the integration there is, beside the call of g_unix_fd_add. */
static gboolean turn(gint fd, GIOCondition condition, gpointer data) {
    (void)fd, (void)condition, (void)data;
    n_turns++;
    return plugin_turn() == 0 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static gboolean beat(gpointer data) {
    (void)data;
    n_beats++;
    return G_SOURCE_CONTINUE;
}

static gboolean quit(gpointer data) {
    (void)data;
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static gpointer talk(gpointer port) {
    static const char *const words[] = {"one", "two", "three"};
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((unsigned short)GPOINTER_TO_INT(port)),
        .sin_addr = {htonl(INADDR_LOOPBACK)},
    };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        for (int i = 0; i < 3; i++) {
            char echo[16] = {0};
            ssize_t length = (ssize_t)strlen(words[i]);
            if (write(fd, words[i], (size_t)length) == length &&
                recv(fd, echo, (size_t)length, MSG_WAITALL) == length && strcmp(echo, words[i]) == 0) {
                n_echoes++;
            }
            g_usleep(30 * 1000);
        }
    }
    close(fd);
    g_usleep(100 * 1000);
    g_idle_add(quit, NULL);
    return NULL;
}

int main(void) {
    loop = g_main_loop_new(NULL, FALSE);
    guint watch = g_unix_fd_add(plugin_start(), G_IO_IN, turn, NULL);

    g_timeout_add(10, beat, NULL);
    GThread *client = g_thread_new("client", talk, GINT_TO_POINTER(plugin_port()));
    g_main_loop_run(loop);
    g_thread_join(client);
    printf("echoes: %d beats: %d\n", n_echoes, n_beats);
    printf("ticks: %d turns: %d\n", plugin_ticks(), n_turns);

    g_source_remove(watch);
    plugin_stop();
    g_main_loop_unref(loop);
    return 0;
}

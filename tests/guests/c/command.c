/* A command of WASI preview 1 in C. Its first argument says what it does: "env" prints arguments and
 * environment; "count FILE" counts the lines of a file into FILE.count beside it; "upper" copies stdin
 * to stdout in capitals; "exit N" ends with N; without one it says so and waits. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern char **environ;

static int count(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    int lines = 0;
    for (int c; (c = fgetc(file)) != EOF;) {
        lines += c == '\n';
    }
    fclose(file);
    char name[256];
    snprintf(name, sizeof name, "%s.count", path);
    file = fopen(name, "w");
    if (!file) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        return 1;
    }
    fprintf(file, "%d\n", lines);
    return fclose(file);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "env")) {
        for (int n = 0; n < argc; n++) {
            printf("%s%s", n ? " " : "arguments: ", argv[n]);
        }
        putchar('\n');
        for (char **pair = environ; *pair; pair++) {
            puts(*pair);
        }
        return 0;
    }
    if (!strcmp(what, "count")) {
        return count(argc > 2 ? argv[2] : "");
    }
    if (!strcmp(what, "upper")) {
        for (int c; (c = getchar()) != EOF;) {
            putchar(toupper(c));
        }
        return 0;
    }
    if (!strcmp(what, "exit")) {
        return argc > 2 ? atoi(argv[2]) : 0;
    }
    puts("waiting in C");
    fflush(stdout);
    for (;;) {
        struct timespec second = {1, 0};
        nanosleep(&second, NULL);
    }
}

// A function in C, for both ways to be called: built as a command it answers
// once, with its variables in the environment; with -DWARM as a reactor, whose
// handler gets them on standard input.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void answer(const char *method, const char *path, int calls) {
	printf("Content-Type: text/plain\n\n%s %s, call %d\n", method ? method : "?", path ? path : "?", calls);
	fflush(stdout);
}

#ifdef WARM

// read_exactly reads n bytes of standard input. stdio would read on, and keep
// bytes and the end of the input from one call to the next.
static int read_exactly(char *to, size_t n) {
	while (n > 0) {
		ssize_t got = read(0, to, n);
		if (got <= 0) return -1;
		to += got;
		n -= got;
	}
	return 0;
}

static char head[1 << 17];

// variable finds one among names and values that each end in a zero byte.
static const char *variable(const char *name, size_t size) {
	for (const char *p = head; p < head + size;) {
		const char *value = p + strlen(p) + 1;
		if (strcmp(p, name) == 0) return value;
		p = value + strlen(value) + 1;
	}
	return NULL;
}

__attribute__((export_name("handle"))) void handle(void) {
	static int calls;
	size_t size = 0;
	char c;
	while (read_exactly(&c, 1) == 0 && c != ':') size = size * 10 + (c - '0');
	if (size >= sizeof head || read_exactly(head, size + 1) != 0) abort(); // with the comma
	answer(variable("REQUEST_METHOD", size), variable("PATH_INFO", size), ++calls);
}

#else

int main(void) {
	answer(getenv("REQUEST_METHOD"), getenv("PATH_INFO"), 1);
	return 0;
}

#endif

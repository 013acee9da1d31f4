/* A load generator that checks every answer.
 *
 *     load PORT PLAN RECORDS CONNECTIONS SECONDS
 *
 * One thread, epoll, HTTP/1.1 with kept connections, to 127.0.0.1. PLAN (written by load/plan.py)
 * holds requests, the answer that each must get (with a mask: 0 where answers may differ, as in an
 * id), and, for an open loop, a schedule.
 *
 * Closed loop (no schedule): CONNECTIONS clients send one request after another for SECONDS.
 * Open loop: each request is sent when it is due, on the connection that became idle last or else
 * on a new one, however many are unanswered. Its time counts from when it was due, so a server that
 * is late is charged for it (no coordinated omission), and so is this program: RECORDS tells when
 * each was due, sent and answered.
 *
 * RECORDS: one struct record each, little-endian as the machine is. Requests that have no answer
 * GRACE_S after the last was sent are recorded as unanswered.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define GRACE_S 30
#define MOST_CONNECTIONS 16384
#define MOST_FAILURES 20000 /* a server that is gone: stop asking */
#define NS 1000000000ull

enum verdict { CORRECT = 0, STATUS = 1, WRONG = 2, BROKEN = 3, UNANSWERED = 4 };

struct record {
    uint64_t due, sent, done; /* nanoseconds from the start */
    uint32_t request;
    int16_t status; /* of HTTP; 0: none came */
    uint8_t verdict, unused;
};

struct request {
    uint32_t length, answer_length;
    const char *text, *answer, *mask;
};

struct due {
    uint64_t at;
    uint32_t request, unused;
};

struct connection {
    int fd, is_busy, is_connected, is_idle_listed;
    uint32_t request;
    uint64_t due, sent;
    size_t written, filled, room;
    char *buffer;
};

static struct request *requests;
static uint32_t request_count;
static struct due *schedule;
static uint64_t schedule_count, scheduled;
static struct connection *connections;
static int connection_count, poller, port;
static int *idle, idle_count;
static uint64_t began, stop_at, in_flight, failures;
static int is_hopeless;
static uint32_t next_request;
static FILE *records;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS + (uint64_t)time.tv_nsec - began;
}

static void read_plan(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *at = malloc((size_t)size);
    if (!at || fread(at, 1, (size_t)size, file) != (size_t)size) die("reading the plan");
    fclose(file);
    memcpy(&request_count, at, 4);
    at += 4;
    requests = calloc(request_count, sizeof *requests);
    for (uint32_t i = 0; i < request_count; i++) {
        struct request *one = &requests[i];
        memcpy(&one->length, at, 4);
        one->text = at + 4;
        at += 4 + one->length;
        memcpy(&one->answer_length, at, 4);
        one->answer = at + 4;
        one->mask = one->answer + one->answer_length;
        at += 4 + 2ull * one->answer_length;
    }
    memcpy(&schedule_count, at, 8);
    schedule = malloc(schedule_count * sizeof *schedule + 1);
    memcpy(schedule, at + 8, schedule_count * sizeof *schedule);
}

static void note(struct connection *c, int status, enum verdict verdict) {
    struct record record = {c->due, c->sent, now(), c->request, (int16_t)status, verdict, 0};
    if (fwrite(&record, sizeof record, 1, records) != 1) die("writing a record");
    c->is_busy = 0;
    in_flight--;
    if (verdict == BROKEN && ++failures > MOST_FAILURES) is_hopeless = 1;
}

static void open_connection(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->is_connected = 0;
    c->filled = 0;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) == 0) c->is_connected = 1;
    /* Any other failure than EINPROGRESS shows when the request is written. */
    struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.ptr = c}};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
}

static void close_connection(struct connection *c) {
    close(c->fd);
    c->fd = -1;
}

/* Send what is left of the request. 0: the connection is broken. */
static int push(struct connection *c) {
    const struct request *r = &requests[c->request];
    while (c->written < r->length) {
        ssize_t n = send(c->fd, r->text + c->written, r->length - c->written, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return 1;
        if (n < 0) return 0;
        c->written += (size_t)n;
    }
    return 1;
}

static void ask(struct connection *c, uint32_t request, uint64_t due) {
    c->request = request;
    c->is_busy = 1;
    c->written = c->filled = 0;
    c->sent = now();
    c->due = due == UINT64_MAX ? c->sent : due;
    in_flight++;
    if (c->fd < 0) open_connection(c);
    if (!push(c)) {
        note(c, 0, BROKEN);
        close_connection(c);
    }
}

static const char *header(const char *head, const char *end, const char *name) {
    size_t length = strlen(name);
    for (const char *line = head; line < end;) {
        if ((size_t)(end - line) > length && !strncasecmp(line, name, length)) {
            const char *value = line + length;
            while (*value == ' ') value++;
            return value;
        }
        line = memchr(line, '\n', (size_t)(end - line));
        if (!line) break;
        line++;
    }
    return NULL;
}

/* Join the chunks in place. -1: not whole yet. */
static ssize_t join_chunks(char *body, size_t filled) {
    size_t in = 0, out = 0;
    for (int pass = 0; pass < 2; pass++, in = 0) {
        for (;;) {
            char *line_end = memmem(body + in, filled - in, "\r\n", 2);
            if (!line_end) return -1;
            size_t size = strtoul(body + in, NULL, 16);
            size_t start = (size_t)(line_end - body) + 2;
            if (start + size + 2 > filled) return -1;
            if (size == 0) break;
            if (pass == 1) {
                memmove(body + out, body + start, size);
                out += size;
            }
            in = start + size + 2;
        }
    }
    return (ssize_t)out;
}

static int is_as_expected(const struct request *r, const char *body, size_t length) {
    if (length != r->answer_length) return 0;
    if (!memcmp(body, r->answer, length)) return 1;
    for (size_t i = 0; i < length; i++)
        if (r->mask[i] && body[i] != r->answer[i]) return 0;
    return 1;
}

/* Look at what has come. 1: a whole answer was noted. */
static int take_answer(struct connection *c, int is_ended, int *must_close) {
    c->buffer[c->filled] = 0;
    char *head_end = memmem(c->buffer, c->filled, "\r\n\r\n", 4);
    if (!head_end) return 0;
    char *body = head_end + 4;
    size_t have = c->filled - (size_t)(body - c->buffer);
    const char *length_text = header(c->buffer, head_end, "content-length:");
    const char *coding = header(c->buffer, head_end, "transfer-encoding:");
    const char *kept = header(c->buffer, head_end, "connection:");
    ssize_t length;
    if (coding && !strncasecmp(coding, "chunked", 7)) {
        length = join_chunks(body, have);
        if (length < 0) return 0;
    } else if (length_text) {
        length = (ssize_t)strtoull(length_text, NULL, 10);
        if (have < (size_t)length) return 0;
    } else {
        if (!is_ended) return 0;
        length = (ssize_t)have;
    }
    int status = atoi(c->buffer + 9);
    /* More than was asked for is wrong, too. */
    int is_right = (coding || have == (size_t)length) &&
                   is_as_expected(&requests[c->request], body, (size_t)length);
    note(c, status, status != 200 ? STATUS : is_right ? CORRECT : WRONG);
    *must_close = kept && !strncasecmp(kept, "close", 5);
    return 1;
}

/* Read all there is. Whatever breaks the connection closes it; so does a server that hangs up. */
static void pull(struct connection *c, int has_hung_up) {
    for (;;) {
        if (c->filled + 1 >= c->room) {
            c->room = c->room ? 2 * c->room : 16384;
            c->buffer = realloc(c->buffer, c->room);
            if (!c->buffer) die("realloc");
        }
        ssize_t n = recv(c->fd, c->buffer + c->filled, c->room - c->filled - 1, 0);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return;
        int is_ended = n <= 0, must_close = 0;
        if (n > 0) c->filled += (size_t)n;
        if (c->is_busy && c->filled && take_answer(c, is_ended, &must_close)) {
            if (is_ended || must_close || has_hung_up) close_connection(c);
            return;
        }
        if (is_ended) {
            if (c->is_busy) note(c, 0, BROKEN);
            close_connection(c);
            return;
        }
        if (!c->is_busy) {
            fprintf(stderr, "an answer that nobody had asked for\n");
            exit(1);
        }
    }
}

static void serve_event(struct connection *c, uint32_t events) {
    if (c->fd < 0) return;
    int was_busy = c->is_busy;
    if (events & EPOLLOUT && c->is_busy && !push(c)) {
        note(c, 0, BROKEN);
        close_connection(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        pull(c, events & (EPOLLRDHUP | EPOLLHUP));
    if (schedule_count && was_busy && !c->is_busy && c->fd >= 0 && !c->is_idle_listed) {
        c->is_idle_listed = 1;
        idle[idle_count++] = (int)(c - connections);
    }
}

static struct connection *take_idle(void) {
    while (idle_count) {
        struct connection *c = &connections[idle[--idle_count]];
        c->is_idle_listed = 0;
        if (!c->is_busy && c->fd >= 0) return c;
    }
    for (int i = 0; i < connection_count; i++)
        if (!connections[i].is_busy && connections[i].fd < 0) return &connections[i];
    if (connection_count == MOST_CONNECTIONS) return NULL;
    connections[connection_count].fd = -1;
    return &connections[connection_count++];
}

static void send_what_is_due(int timer) {
    while (scheduled < schedule_count && !is_hopeless && schedule[scheduled].at <= now()) {
        struct connection *c = take_idle();
        if (!c) {
            fprintf(stderr, "more than %d connections at once\n", MOST_CONNECTIONS);
            exit(1);
        }
        ask(c, schedule[scheduled].request, schedule[scheduled].at);
        scheduled++;
    }
    if (scheduled == schedule_count) return;
    uint64_t at = schedule[scheduled].at + began;
    struct itimerspec when = {.it_value = {(time_t)(at / NS), (long)(at % NS)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void send_again(void) {
    for (int i = 0; i < connection_count; i++)
        while (!connections[i].is_busy && !is_hopeless && now() < stop_at)
            ask(&connections[i], next_request++ % request_count, UINT64_MAX);
}

int main(int count, char **words) {
    if (count != 6) {
        fprintf(stderr, "usage: load PORT PLAN RECORDS CONNECTIONS SECONDS\n");
        return 2;
    }
    port = atoi(words[1]);
    read_plan(words[2]);
    records = fopen(words[3], "wb");
    if (!records) die(words[3]);
    setvbuf(records, NULL, _IOFBF, 1 << 20);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    connections = calloc(MOST_CONNECTIONS, sizeof *connections);
    idle = calloc(MOST_CONNECTIONS, sizeof *idle);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
    if (poller < 0 || timer < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event)) die("epoll");

    began = now();
    stop_at = (uint64_t)(atof(words[5]) * (double)NS);
    if (schedule_count) {
        send_what_is_due(timer);
    } else {
        connection_count = atoi(words[4]);
        for (int i = 0; i < connection_count; i++) connections[i].fd = -1;
        send_again();
    }
    uint64_t give_up_at = UINT64_MAX;
    struct epoll_event events[256];
    for (;;) {
        int is_over =
            is_hopeless || (schedule_count ? scheduled == schedule_count : now() >= stop_at);
        if (is_over && give_up_at == UINT64_MAX) give_up_at = now() + GRACE_S * NS;
        if (is_over && (!in_flight || now() >= give_up_at)) break;
        int ready = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c) {
                serve_event(c, events[i].events);
                if (!schedule_count && !c->is_busy && !is_hopeless && now() < stop_at)
                    ask(c, next_request++ % request_count, UINT64_MAX);
            }
        }
        if (schedule_count)
            send_what_is_due(timer);
        else if (failures)
            send_again(); /* those whose new connection failed at once */
    }
    for (int i = 0; i < connection_count; i++)
        if (connections[i].is_busy) note(&connections[i], 0, UNANSWERED);
    if (fclose(records)) die(words[3]);
    return 0;
}

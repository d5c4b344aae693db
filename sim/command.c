/* What all commands say the same way: errors, and wrong command lines. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"

/* Length of the UTF-8 character at p, 0 where there is none; its code point in *code. */
static int utf8(const unsigned char *p, unsigned *code)
{
	int n = *p < 0x80                 ? 1
		: *p >= 0xc2 && *p < 0xe0 ? 2
		: *p >= 0xe0 && *p < 0xf0 ? 3
		: *p >= 0xf0 && *p < 0xf5 ? 4
					  : 0;
	*code = n < 2 ? *p : *p & (0xffu >> (n + 1));
	for (int i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		*code = *code << 6 | (p[i] & 0x3fu);
	}
	return n;
}

/* C0, DEL and C1; marks and overrides of writing direction; line and paragraph separators. */
static bool acts_on_terminal(unsigned c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

void command_print(FILE *f, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	while (*p) {
		unsigned code;
		int n = utf8(p, &code);
		if (n == 0 || acts_on_terminal(code))
			fputc(code == '\t' ? ' ' : '?', f);
		else
			fwrite(p, 1, (size_t)n, f);
		p += n ? n : 1;
	}
}

int command_fail(const struct ikv_err *err)
{
	fputs("intentkv: ", stderr);
	command_print(stderr, err->text);
	fputc('\n', stderr);
	return err->status ? (int)err->status : IKV_FAILED;
}

int command_usage(const char *command, const char *fmt, ...)
{
	char text[500];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fprintf(stderr, "intentkv: %s%s", command ? command : "", command ? ": " : "");
	command_print(stderr, text);
	fprintf(stderr, "; see `intentkv%s%s --help`\n", command ? " " : "", command ? command : "");
	return IKV_USAGE;
}

int command_count(const char *command, const char *option, const char *text, uint32_t min, uint32_t max,
		  uint32_t *out)
{
	char *end;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (*end || end == text || errno || n < min || n > max)
		return max == UINT32_MAX
			   ? command_usage(command, "%s: got \"%.40s\", expected a number from %u", option, text, min)
			   : command_usage(command, "%s: got \"%.40s\", expected a number from %u to %u", option,
					   text, min, max);
	*out = (uint32_t)n;
	return IKV_OK;
}

const struct command_option command_help_option = {"help", 'h', NULL, NULL, NULL, "show this text"};

static void add_option(struct command_line *line, size_t n, const struct command_option *o)
{
	size_t used = strlen(line->shorts);
	line->longs[n] = (struct option){o->name, o->argument ? required_argument : no_argument, NULL, o->value};
	if (o->value < 256)
		snprintf(line->shorts + used, sizeof line->shorts - used, "%c%s", o->value, o->argument ? ":" : "");
}

void command_begin(struct command_line *line, const struct command *command, int argc, char **argv)
{
	size_t n = 0;
	*line = (struct command_line){.command = command, .argc = argc, .argv = argv, .shorts = ":"};
	for (const struct command_option *o = command->options; o && o->name && n < COMMAND_OPTIONS_MAX; o++)
		add_option(line, n++, o);
	optind = opterr = 0; /* getopt starts afresh for the command's own words */
}

static void refused(const struct command_line *line, int c)
{
	const char *names[COMMAND_OPTIONS_MAX], *word = line->argv[optind - 1], *command = line->command->name;
	size_t n = 0;
	if (c == ':') {
		command_usage(command, "option %.80s needs a value", word);
	} else if (optopt && strncmp(word, "--", 2) != 0) {
		command_usage(command, "unknown option -%c", optopt);
	} else if (optopt) {
		command_usage(command, "option %.80s takes no value", word);
	} else {
		for (; line->longs[n].name; n++)
			names[n] = line->longs[n].name;
		const char *near = n ? ikv_nearest(word + 2, names, n) : NULL;
		command_usage(command, "unknown option %.80s%s%s%s", word, near ? "; did you mean --" : "",
			      near ? near : "", near ? "?" : "");
	}
}

int command_next(struct command_line *line)
{
	int c = getopt_long(line->argc, line->argv, line->shorts, line->longs, NULL);
	if (c != '?' && c != ':')
		return c;
	refused(line, c);
	return COMMAND_WRONG;
}

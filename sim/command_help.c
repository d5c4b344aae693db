/* What `intentkv NAME --help` prints, from the command's table: examples first. */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "sim/command.h"
#include "sim/command_text.h"

enum { INDENT_MAX = 26 };

/* Columns of text: those of the terminal, within what reads well. */
static int width_of(FILE *f)
{
	struct winsize w;
	if (ioctl(fileno(f), TIOCGWINSZ, &w) != 0 || w.ws_col == 0)
		return 100;
	return w.ws_col < 60 ? 60 : w.ws_col > 110 ? 110 : w.ws_col;
}

/* Columns that `n` bytes of UTF-8 take, for text without wide characters. */
static int columns(const char *text, size_t n)
{
	int used = 0;
	for (size_t i = 0; i < n; i++)
		used += ((unsigned char)text[i] & 0xc0) != 0x80;
	return used;
}

/* Words of `text` in lines up to `width` columns, which begin at `indent`; the cursor stands at column `at`. */
static void fill(FILE *f, const char *text, int at, int indent, int width)
{
	bool first = true;
	while (*text) {
		size_t n = strcspn(text, " \n");
		int needs = columns(text, n);
		if (!first && at + 1 + needs > width) {
			fprintf(f, "\n%*s", indent, "");
			at = indent;
		} else if (!first) {
			fputc(' ', f);
			at++;
		}
		fwrite(text, 1, n, f);
		at += needs;
		first = false;
		text += n;
		if (*text == '\n' && text[1]) {
			fprintf(f, "\n%*s", indent, "");
			at = indent;
			first = true;
		}
		text += *text != 0;
	}
	fputc('\n', f);
}

void command_option_text(const struct command_option *o, char *text, size_t size)
{
	int n = snprintf(text, size, "%s", o->help);
	const char *p = o->words, *separator = ": ";
	bool listed = p && command_words_listed(p), named = false;
	while (listed && *p && n > 0 && (size_t)n < size) {
		size_t length = strcspn(p, " ");
		bool is_default = o->def && strlen(o->def) == length && strncmp(o->def, p, length) == 0;
		named = named || is_default;
		n += snprintf(text + n, size - (size_t)n, "%s%.*s%s", separator, (int)length, p,
			      is_default ? " (default)" : "");
		p += length + (p[length] == ' ');
		separator = strchr(p, ' ') ? ", " : " or ";
	}
	if (o->def && !named && n > 0 && (size_t)n < size)
		snprintf(text + n, size - (size_t)n, " (default %s)", o->def);
}

static int option_head(const struct command_option *o, char *text, size_t size)
{
	bool small = o->value < 256;
	return snprintf(text, size, "  %c%c%c --%s%s%s", small ? '-' : ' ', small ? o->value : ' ', small ? ',' : ' ',
			o->name, o->argument ? " " : "", o->argument ? o->argument : "");
}

static void print_options(const struct command_option *options, FILE *f)
{
	char head[100], text[600];
	const struct command_option *const all[] = {options, &command_help_option};
	int indent = 0, width = width_of(f);
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < 2; i++) {
			for (const struct command_option *o = all[i]; o && o->name; o = i ? NULL : o + 1) {
				int n = option_head(o, head, sizeof head) + 2;
				if (pass == 0) {
					indent = n > indent && n <= INDENT_MAX ? n : indent;
					continue;
				}
				command_option_text(o, text, sizeof text);
				fputs(head, f);
				if (n > indent)
					fprintf(f, "\n%*s", indent, "");
				else
					fprintf(f, "%*s", indent - n + 2, "");
				fill(f, text, indent, indent, width);
			}
		}
	}
}

void command_print_examples(const char *text, FILE *f)
{
	int column = 0, limit = 64;
	for (int pass = 0; pass < 2; pass++) {
		for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line != 0) {
			int end = (int)strcspn(line, "\n"), tab = (int)strcspn(line, "\t\n");
			if (pass == 0) {
				column = tab < end && tab > column && tab <= limit ? tab : column;
				continue;
			}
			fprintf(f, "  %.*s", tab, line);
			if (tab < end)
				fprintf(f, "%*s%.*s", tab < column ? column - tab + 2 : 2, "", end - tab - 1,
					line + tab + 1);
			fputc('\n', f);
		}
	}
	fputc('\n', f);
}

static void print_parts(const struct command *command, FILE *f)
{
	int indent = 0;
	for (int pass = 0; pass < 2; pass++) {
		for (const struct command *const *p = command->parts; *p; p++) {
			const char *word = strrchr((*p)->name, ' ') + 1, *arguments = (*p)->arguments;
			int n = (int)strlen(word) + (arguments ? 1 + (int)strlen(arguments) : 0) + 4;
			if (pass == 0) {
				indent = n > indent ? n : indent;
				continue;
			}
			fprintf(f, "  %s%s%s%*s", word, arguments ? " " : "", arguments ? arguments : "",
				indent - n + 2, "");
			fill(f, (*p)->summary, indent, indent, width_of(f));
		}
	}
	if (command->parts[1])
		fprintf(f, "\n`intentkv %s %.*s --help` has the options of one.\n\n", command->name,
			(int)strcspn(command->arguments, " "), command->arguments);
	else
		fprintf(f, "\n`intentkv %s --help` has its options.\n\n", command->parts[0]->name);
}

void command_help(const struct command *command, FILE *f)
{
	const char *arguments = command->arguments;
	fprintf(f, "intentkv %s%s%s%s: %s\n\n", command->name, arguments ? " " : "", arguments ? arguments : "",
		command->options ? " [OPTION]..." : "", command->summary);
	if (command->examples)
		command_print_examples(command->examples, f);
	if (command->about) {
		fill(f, command->about, 0, 0, width_of(f));
		fputc('\n', f);
	}
	if (command->parts)
		print_parts(command, f);
	print_options(command->options, f);
	if (command->exits) {
		fputs("\nExit codes: ", f);
		fill(f, command->exits, 12, 2, width_of(f));
	}
}

/* What --help, the manual pages and completion share about the words of a command line.
 *
 * Notation of `words` in struct command_option and struct command:
 *   "table csv json"  these, and nothing else
 *   "<figures>"       those of a table of the program: see command_words.c
 *   "*.yaml"          files of that ending; "*": any file; "/": folders */
#ifndef SIM_COMMAND_TEXT_H
#define SIM_COMMAND_TEXT_H

#include "sim/command.h"

/* Whether `words` names all of them. */
static inline bool command_words_listed(const char *words)
{
	return words[0] != '<' && words[0] != '*' && words[0] != '/';
}

/* An option's help with its values and default. */
void command_option_text(const struct command_option *o, char *text, size_t size);

/* Print what may stand in place of the last of `count` words that follow "intentkv", a line each: the word, then
 * after a tab what it means. A line "*.yaml", "*" or "/" asks the shell for names of files. False: a table of options
 * names a table of words that is not there. */
bool command_words(int count, char **words, FILE *f);

/* Rows of `intentkv list`, of the table with this name or for this key of a scenario; false: there is none. NULL: the
 * tables themselves. `options` are those of the row, or NULL. */
typedef void list_row(void *context, const char *name, const char *summary, const struct ikv_option *options);
bool list_each(const char *table, list_row *fn, void *context);

#endif

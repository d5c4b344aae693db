#include <string.h>
#include "sim/trace/timestamp.h"

enum { NS_DIGITS = 9, YEAR_MIN = 1970, YEAR_MAX = 2261 };

/* Exactly `digits` digits; -1 if they are not there. */
static int number(const char **text, int digits)
{
	int n = 0;
	for (int i = 0; i < digits; i++, (*text)++) {
		if (**text < '0' || **text > '9')
			return -1;
		n = n * 10 + (**text - '0');
	}
	return n;
}

static bool step_over(const char **text, char a, char b)
{
	if (**text != a && **text != b)
		return false;
	(*text)++;
	return true;
}

static int days_in(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	return days[month - 1] + (month == 2 && leap);
}

static int64_t days_since_1970(int year, int month, int day)
{
	int64_t y = year - 1, days = y * 365 + y / 4 - y / 100 + y / 400 - 719162;
	for (int m = 1; m < month; m++)
		days += days_in(year, m);
	return days + day - 1;
}

static bool date(const char **text, int64_t *days)
{
	int year = number(text, 4);
	if (!step_over(text, '-', '/'))
		return false;
	int month = number(text, 2);
	if (!step_over(text, '-', '/'))
		return false;
	int day = number(text, 2);
	if (year < YEAR_MIN || year > YEAR_MAX || month < 1 || month > 12 || day < 1 || day > days_in(year, month))
		return false;
	*days = days_since_1970(year, month, day);
	return true;
}

/* Seconds east of UTC. */
static bool zone(const char **text, int *seconds)
{
	*seconds = 0;
	if (!**text || step_over(text, 'Z', 'z'))
		return true;
	int sign = **text == '-' ? -1 : 1;
	if (!step_over(text, '+', '-'))
		return false;
	int hours = number(text, 2);
	step_over(text, ':', ':');
	int minutes = number(text, 2);
	*seconds = sign * (hours * 3600 + minutes * 60);
	return hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60;
}

bool timestamp_read(const char *text, int64_t *out_ns)
{
	int64_t days, ns = 0;
	int east;
	if (!date(&text, &days) || !step_over(&text, ' ', 'T'))
		return false;
	int hour = number(&text, 2);
	if (!step_over(&text, ':', ':'))
		return false;
	int minute = number(&text, 2);
	if (!step_over(&text, ':', ':'))
		return false;
	int second = number(&text, 2); /* 60 is a leap second */
	if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
		return false;
	if (step_over(&text, '.', ',')) {
		int digits = 0;
		for (; *text >= '0' && *text <= '9'; text++)
			if (digits < NS_DIGITS) {
				ns = ns * 10 + (*text - '0');
				digits++;
			}
		if (!digits)
			return false;
		for (; digits < NS_DIGITS; digits++)
			ns *= 10;
	}
	if (!zone(&text, &east) || *text)
		return false;
	*out_ns = (days * 86400 + hour * 3600 + minute * 60 + second - east) * 1000000000 + ns;
	return *out_ns >= 0;
}

#include <stdio.h>
int main(void)
{
	puts("intentkv");
	return 0;
}

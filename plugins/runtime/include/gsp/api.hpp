// Symbol visibility: what is marked GSP_API is the library's ABI, everything else stays inside.
#pragma once

#define GSP_API __attribute__((visibility("default")))

// One function per file of the addon: adds that file's methods to the exports.
#pragma once

#include <napi.h>

namespace causeway {

void exposeFd(Napi::Object exports);
void exposeWatch(Napi::Object exports);
void exposeMemory(Napi::Object exports);
void exposeMmio(Napi::Object exports);
void exposeKvm(Napi::Object exports);
void exposeVcpu(Napi::Object exports);
void exposeVcpuState(Napi::Object exports);
void exposeVfio(Napi::Object exports);
void exposeIommufd(Napi::Object exports);
void exposeProcess(Napi::Object exports);
void exposeLayout(Napi::Object exports);

}  // namespace causeway

# SPDX-License-Identifier: GPL-2.0-only
# ndk-build NDK_PROJECT_PATH=. KERNEL_HEADERS=FOLDER, where FOLDER is usr/include
# of the patched kernel's build (make headers)
LOCAL_PATH := $(call my-dir)
ifndef KERNEL_HEADERS
$(error KERNEL_HEADERS is not set: give the usr/include of the patched kernel)
endif

include $(CLEAR_VARS)
LOCAL_MODULE := mm_sample
LOCAL_SRC_FILES := $(patsubst $(LOCAL_PATH)/%,%,\
	$(wildcard $(LOCAL_PATH)/*.c $(LOCAL_PATH)/../../common/*.c))
LOCAL_C_INCLUDES := $(LOCAL_PATH)/../../include
LOCAL_CFLAGS := -std=gnu11 -Wall -Wextra -isystem $(KERNEL_HEADERS)
# Runs without a dynamic linker, on Android and elsewhere.
LOCAL_LDFLAGS := -static
include $(BUILD_EXECUTABLE)

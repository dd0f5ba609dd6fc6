# SPDX-License-Identifier: GPL-2.0-only
APP_ABI := armeabi-v7a
APP_PLATFORM := android-21

// SPDX-License-Identifier: MIT
#pragma once

// Constants that are newer than the headers of the floor (Debian 12: Linux 6.1 headers, glibc 2.36,
// liburing 2.3). The numbers are kernel ABI. What they name is probed at run time before use.

#include <linux/types.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 // Linux 6.5
#endif

#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14) // Linux 6.6
#endif
#ifndef UFFDIO_POISON
// The kernel's own names. NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
#define _UFFDIO_POISON (0x08)
struct uffdio_poison {
    struct uffdio_range range;
    __u64 mode;
    __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
#endif

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020 // Linux 6.3
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U // Linux 6.3
#endif

namespace thaw {
// IORING_OP_READ_MULTISHOT, Linux 6.7; liburing 2.3 has no name for it.
inline constexpr unsigned kIoringOpReadMultishot = 49;

// EXT4_IOC_GETFSUUID, Linux 6.0; `length` bytes follow the header.
struct Ext4UuidHeader {
    __u32 length;
    __u32 flags;
};
inline constexpr unsigned long kExt4IocGetFsUuid = _IOR('f', 44, Ext4UuidHeader);

// FS_IOC_GETFSUUID, Linux 6.9.
struct FsUuid2 {
    __u8 length;
    __u8 uuid[16];
};
inline constexpr unsigned long kFsIocGetFsUuid = _IOR(0x15, 0, FsUuid2);

// XFS_IOC_FSGEOMETRY_V1: its header comes with xfsprogs' development package, not with the
// kernel's.
struct XfsGeometry {
    __u32 sizes[8];
    __u64 blocks[4];
    unsigned char uuid[16];
    __u32 more[7];
};
inline constexpr unsigned long kXfsIocFsGeometry = _IOR('X', 100, XfsGeometry);
} // namespace thaw

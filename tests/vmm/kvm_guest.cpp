// SPDX-License-Identifier: MIT
#include "kvm_guest.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace thaw::standin {
namespace {

// The slot of the guest's own things: 2 MiB inside the hole between 3 and 4 GiB.
constexpr std::uint64_t own_base = 0xE0000000;
constexpr std::size_t own_size = 2U << 20;
constexpr std::size_t at_pml4 = 0, at_pdpt = 0x1000, at_code = 0x2000, at_gdt = 0x3000;
constexpr std::size_t at_mailbox = 0x4000, at_directories = 0x10000;
constexpr std::uint64_t mapped_gib_max = 64;
constexpr std::uint16_t report_port = 0x10;

struct Mailbox {
    std::uint64_t from, to, key, sum;
};

// rbx points to the mailbox. Only plain moves, adds, compares, jumps and out: a nested KVM may
// have to emulate every instruction.
//   again: mov rdi,[rbx]; mov rsi,[rbx+8]; mov rdx,[rbx+16]; xor eax,eax
//   next:  add rax,[rdi]; test rdx,rdx; jz skip
//          mov rcx,rdi; xor rcx,rdx; mov [rdi+4088],rcx
//   skip:  add rdi,4096; cmp rdi,rsi; jb next
//          mov [rbx+24],rax; out 0x10,al; jmp again
constexpr std::array<std::uint8_t, 54> code = {
    0x48, 0x8B, 0x3B, 0x48, 0x8B, 0x73, 0x08, 0x48, 0x8B, 0x53, 0x10, 0x31, 0xC0, // again
    0x48, 0x03, 0x07, 0x48, 0x85, 0xD2, 0x74, 0x0D,                               // next
    0x48, 0x89, 0xF9, 0x48, 0x31, 0xD1, 0x48, 0x89, 0x8F, 0xF8, 0x0F, 0x00, 0x00, // write
    0x48, 0x81, 0xC7, 0x00, 0x10, 0x00, 0x00, 0x48, 0x39, 0xF7, 0x72, 0xDF,       // skip
    0x48, 0x89, 0x43, 0x18, 0xE6, 0x10, 0xEB, 0xCA
};

std::string kvm_error(const char* what) {
    return fmt::format("KVM: {}: {}", what, os_error(errno));
}

kvm_segment segment(std::uint16_t selector, std::uint8_t type, bool is_code) {
    kvm_segment out{};
    out.limit = 0xFFFFFFFF;
    out.selector = selector;
    out.type = type;
    out.present = 1;
    out.s = 1;
    out.g = 1;
    out.l = is_code ? 1 : 0;
    out.db = is_code ? 0 : 1;
    return out;
}

} // namespace

KvmGuest::~KvmGuest() {
    if (run_ != nullptr) {
        ::munmap(run_, run_size_);
    }
    if (own_ != nullptr) {
        ::munmap(own_, own_size);
    }
}

Result<std::unique_ptr<KvmGuest>> KvmGuest::create(const GuestMemory& memory) {
    Fd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm) {
        return fail(kvm_error("/dev/kvm"));
    }
    std::unique_ptr<KvmGuest> guest(new KvmGuest);
    guest->machine_.reset(::ioctl(kvm.get(), KVM_CREATE_VM, 0));
    if (!guest->machine_) {
        return fail(kvm_error("create VM"));
    }
    // Needed on Intel before the first run; harmless elsewhere.
    ::ioctl(guest->machine_.get(), KVM_SET_TSS_ADDR, 0xFFFBD000UL);
    if (auto done = guest->add_slots(memory); !done) {
        return fail(done.error());
    }
    if (auto done = guest->start_vcpu(kvm.get()); !done) {
        return fail(done.error());
    }
    return guest;
}

Result<void> KvmGuest::add_slots(const GuestMemory& memory) {
    void* own =
        ::mmap(nullptr, own_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (own == MAP_FAILED) {
        return fail(kvm_error("memory"));
    }
    own_ = static_cast<std::uint8_t*>(own);
    std::uint32_t slot = 0;
    std::uint64_t highest = own_base + own_size;
    auto add = [&](std::uint64_t address, std::uint64_t size, void* host) {
        kvm_userspace_memory_region region{
            slot++, 0, address, size, reinterpret_cast<std::uintptr_t>(host)
        };
        return ::ioctl(machine_.get(), KVM_SET_USER_MEMORY_REGION, &region) == 0;
    };
    for (const auto& region : memory.regions()) {
        highest = std::max(highest, region.layout.guest_address + region.layout.size);
        if (!add(region.layout.guest_address, region.layout.size, region.host)) {
            return fail(kvm_error("memory slot"));
        }
    }
    if (!add(own_base, own_size, own_)) {
        return fail(kvm_error("memory slot"));
    }
    if (highest > mapped_gib_max << 30) {
        return fail("KVM: guest RAM beyond 64 GiB");
    }
    write_tables(highest);
    return {};
}

void KvmGuest::write_tables(std::uint64_t highest) {
    auto put = [&](std::size_t at, std::uint64_t value) {
        std::memcpy(own_ + at, &value, sizeof(value));
    };
    constexpr std::uint64_t present_writable = 3, large = 0x80;
    put(at_pml4, (own_base + at_pdpt) | present_writable);
    for (std::uint64_t gib = 0; gib << 30 < highest; ++gib) {
        const std::size_t directory = at_directories + gib * 4096;
        put(at_pdpt + gib * 8, (own_base + directory) | present_writable);
        for (std::uint64_t i = 0; i < 512; ++i) {
            put(directory + i * 8, (gib << 30) | (i << 21) | present_writable | large);
        }
    }
    put(at_gdt + 8, 0x00AF9B000000FFFFULL);  // 64-bit code
    put(at_gdt + 16, 0x00CF93000000FFFFULL); // data
    std::memcpy(own_ + at_code, code.data(), code.size());
}

Result<void> KvmGuest::start_vcpu(int kvm) {
    vcpu_.reset(::ioctl(machine_.get(), KVM_CREATE_VCPU, 0));
    const int size = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (!vcpu_ || size <= 0) {
        return fail(kvm_error("create vCPU"));
    }
    run_size_ = static_cast<std::size_t>(size);
    void* run = ::mmap(nullptr, run_size_, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_.get(), 0);
    if (run == MAP_FAILED) {
        return fail(kvm_error("map vCPU"));
    }
    run_ = run;
    kvm_sregs special{};
    if (::ioctl(vcpu_.get(), KVM_GET_SREGS, &special) != 0) {
        return fail(kvm_error("get registers"));
    }
    special.cr0 = 0x80050033; // paging, protection, native FPU errors
    special.cr3 = own_base + at_pml4;
    special.cr4 = 0x20;   // PAE
    special.efer = 0x500; // long mode enabled and active
    special.cs = segment(8, 11, true);
    special.ds = special.es = special.ss = special.fs = special.gs = segment(16, 3, false);
    special.gdt.base = own_base + at_gdt;
    special.gdt.limit = 23;
    special.idt.limit = 0;
    kvm_regs general{};
    general.rip = own_base + at_code;
    general.rbx = own_base + at_mailbox;
    general.rflags = 2;
    if (::ioctl(vcpu_.get(), KVM_SET_SREGS, &special) != 0 ||
        ::ioctl(vcpu_.get(), KVM_SET_REGS, &general) != 0) {
        return fail(kvm_error("set registers"));
    }
    return {};
}

Result<std::uint64_t> KvmGuest::walk(std::uint64_t from, std::uint64_t to, std::uint64_t key) {
    Mailbox mail{from, to, key, 0};
    std::memcpy(own_ + at_mailbox, &mail, sizeof(mail));
    auto* run = static_cast<kvm_run*>(run_);
    for (;;) {
        if (::ioctl(vcpu_.get(), KVM_RUN, 0) != 0) {
            if (errno == EINTR || errno == EAGAIN) {
                continue;
            }
            return fail(kvm_error("run"));
        }
        break;
    }
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != report_port) {
        return fail(fmt::format("KVM: unexpected exit {}", run->exit_reason));
    }
    std::memcpy(&mail, own_ + at_mailbox, sizeof(mail));
    return mail.sum;
}

} // namespace thaw::standin

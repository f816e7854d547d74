#include "filling.h"

#include <cerrno>
#include <chrono>
#include <poll.h>
#include <unistd.h>

namespace mmflow {

Filled fill(int descriptor, int wake, std::uint8_t* to, std::size_t size, double seconds, bool came_before) noexcept {
    using Clock = std::chrono::steady_clock;
    const auto patience = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    Filled found;
    bool began = came_before;
    auto until = Clock::now() + patience;
    while (found.size < size) {
        int left = -1;
        if (began) {
            const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
            left = rest > 0 ? static_cast<int>(rest) + 1 : 0;
        }
        pollfd watched[] = {{descriptor, POLLIN, 0}, {wake, POLLIN, 0}};
        const int ready = ::poll(watched, 2, left);
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) return {found.size, FillEnd::kFailed, errno};
        if (watched[1].revents != 0) return {found.size, FillEnd::kStopped, 0};
        if (ready == 0 || watched[0].revents == 0) return {found.size, FillEnd::kLate, 0};
        const ssize_t n = ::read(descriptor, to + found.size, size - found.size);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;  // another process may have taken what had come
        if (n < 0) return {found.size, FillEnd::kFailed, errno};
        if (n == 0) return {found.size, FillEnd::kEnd, 0};
        found.size += static_cast<std::size_t>(n);
        if (!began) {
            began = true;
            until = Clock::now() + patience;
        }
        if (Clock::now() >= until) return {found.size, found.size < size ? FillEnd::kLate : FillEnd::kFull, 0};
    }
    return found;
}

}  // namespace mmflow

package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/vishvananda/netlink"
)

// Rate bounds what passes in one direction. The zero value bounds nothing.
type Rate struct {
	// BitsPerSecond counts whole frames; 0: as fast as it can be.
	BitsPerSecond uint64
	// Burst is how much, in bits, may pass at once after a pause. 0, or UnknownBurst and
	// more: what the rate lets pass in 10 ms, and two frames at least.
	Burst uint64
}

// UnknownBurst is from where on a burst is not meant: runtimes, which are told of rates alone,
// say 2^31-1 or 2^32-1 bits for it, which would let the first quarter of a gigabyte pass.
const UnknownBurst = math.MaxInt32

// Bandwidth bounds a pod.
type Bandwidth struct {
	// Ingress is what comes to the pod, Egress what it sends.
	Ingress, Egress Rate
}

// shaper is the handle of our queueing disciplines, by which they are known. Open vSwitch removes
// what there is when it takes a device, be it anew after its own start, and leaves alone what
// comes later.
var shaper = netlink.MakeHandle(0xda, 0)

const (
	// tick is the kernel's unit of time in token buckets, in nanoseconds (PSCHED_SHIFT).
	tick = 64
	// burstTime and queueTime are what fits into the bucket, and how long a packet waits at
	// most, in nanoseconds. A shorter queue lets TCP send less than the rate.
	burstTime = 10_000_000
	queueTime = 100_000_000
	// burstFrames and queueFrames are what fits at least.
	burstFrames = 2
	queueFrames = 10
	// frameHeader is what a frame has beside what the MTU counts: Ethernet, and a VLAN tag.
	frameHeader = 14 + 4
)

// bucket is the token bucket of a rate. What does not fit waits in its queue, which is
// shaping: a policer would drop it, and TCP would never get to the rate.
func (r Rate) bucket(device netlink.Link, mtu int) *netlink.Tbf {
	rate, frame := max(r.BitsPerSecond/8, 1), uint64(mtu+frameHeader)
	burst := max(duration(rate, burstTime), burstFrames*frame)
	if r.Burst > 0 && r.Burst < UnknownBurst {
		burst = max(r.Burst/8, frame) // what is longer would never pass
	}
	queue := max(duration(rate, queueTime), queueFrames*frame)
	ticks := math.Ceil(float64(burst) * 1e9 / float64(rate) / tick)
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: device.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: shaper},
		Rate:       rate,
		Buffer:     uint32(min(ticks, math.MaxUint32)),
		Limit:      uint32(min(burst+queue, math.MaxUint32)),
	}
}

// duration is how many bytes pass at a rate in so many nanoseconds.
func duration(rate, nanoseconds uint64) uint64 {
	return uint64(float64(rate) * float64(nanoseconds) / 1e9)
}

// compareRate compares what leaves a device with a rate. Another queueing discipline than ours
// is replaced by one that is wished for, and else left to whoever made it. An MTU of 0 is the
// device's.
func compareRate(h *netlink.Handle, device netlink.Link, mtu int, r Rate, found *differences) error {
	all, err := h.QdiscList(device)
	if err != nil {
		return fmt.Errorf("list queueing disciplines of %s: %w", device.Attrs().Name, err)
	}
	var has *netlink.Tbf
	for _, q := range all {
		if tbf, ok := q.(*netlink.Tbf); ok && q.Attrs().Parent == netlink.HANDLE_ROOT && q.Attrs().Handle == shaper {
			has = tbf
		}
	}
	name := device.Attrs().Name
	if r.BitsPerSecond == 0 {
		if has != nil {
			found.add(func() error { return h.QdiscDel(has) }, "%s: is bound to %d bit/s, should not be", name, has.Rate*8)
		}
		return nil
	}
	want := r.bucket(device, cmp.Or(mtu, device.Attrs().MTU))
	set := func() error { return h.QdiscReplace(want) }
	switch {
	case has == nil:
		found.add(set, "%s: is not bound to %d bit/s", name, r.BitsPerSecond)
	case has.Rate != want.Rate || has.Buffer != want.Buffer || has.Limit != want.Limit:
		found.add(set, "%s: is bound to %d bit/s, in bursts of %d ticks and a queue of %d bytes, should be to %d, %d and %d",
			name, has.Rate*8, has.Buffer, has.Limit, r.BitsPerSecond, want.Buffer, want.Limit)
	}
	return nil
}

// EnsureBandwidth makes an attachment that is there as fast as its Bandwidth says, and changes
// nothing else of it; of the Pod it reads Netns, Interface, HostVeth and MTU beside, which may be
// 0: the device's. It answers what differed.
func (l *Links) EnsureBandwidth(ctx context.Context, p Pod) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := l.view(p)
	if err != nil {
		return nil, fmt.Errorf("bound pod link %s: %w", p.HostVeth, err)
	}
	defer v.close()
	var found differences
	if err := v.compareBandwidth(p, &found); err != nil {
		return nil, fmt.Errorf("bound pod link %s: %w", p.HostVeth, err)
	}
	lines, err := found.repair()
	if err != nil {
		return lines, fmt.Errorf("bound pod link %s: %w", p.HostVeth, err)
	}
	return lines, nil
}

// compareBandwidth compares both ends with what the pod is to be bound to.
func (v *podView) compareBandwidth(p Pod, found *differences) error {
	host, stale, err := v.host(p)
	if err != nil {
		return err
	}
	if host == nil || stale != "" {
		return errors.New("it is not there as it was made")
	}
	if err := compareRate(v.node, host, p.MTU, p.Bandwidth.Ingress, found); err != nil {
		return err
	}
	inside, err := v.pod.LinkByName(p.Interface)
	if err != nil {
		return fmt.Errorf("find %s in the pod: %w", p.Interface, err)
	}
	return compareRate(v.pod, inside, p.MTU, p.Bandwidth.Egress, found)
}

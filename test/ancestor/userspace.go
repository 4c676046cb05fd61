package ancestor

import (
	"context"
	"fmt"
)

// On the userspace datapath the node's kernel sees the frames of pods besides the switch,
// and must drop them; and checksums have to be filled in before the switch reads a frame.

// offloadOff has the kernel fill in checksums of what a device of this namespace sends.
func offloadOff(ctx context.Context, device string) error {
	return each(ctx, "ethtool -K "+device+" tx off")
}

// hide keeps what arrives on a pod's veth from the node's kernel.
func hide(ctx context.Context, veth string) error {
	rules := fmt.Sprintf("add table netdev ancestor\nadd chain netdev ancestor %[1]s { type filter hook ingress device %[1]q priority 0; policy drop; }\n", veth)
	_, err := command(ctx, rules, "nft", "-f", "-")
	return err
}

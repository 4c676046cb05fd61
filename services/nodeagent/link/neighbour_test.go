package link

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
)

func TestNeighboursAreAskedForOnlyWhereTheSwitchNeedsIt(t *testing.T) {
	for name, userspace := range map[string]bool{"netdev": true, "system": false} {
		t.Run(name, func(t *testing.T) {
			node, other := netnstest.New(t, "node"), netnstest.New(t, "other")
			node.Connect(t, "eth0", other, "eth0")
			node.Run(t, "ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
			other.Run(t, "ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
			node.Run(t, "ip", "link", "set", "eth0", "up")
			other.Run(t, "ip", "link", "set", "eth0", "up")
			links, err := Open(Config{Namespace: node.Path(), Userspace: userspace})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = links.Close() })
			underlay, err := links.FindUnderlay(t.Context(), netip.MustParseAddr("192.0.2.1"))
			if err != nil {
				t.Fatal(err)
			}
			// Itself and one behind a router must not be asked for; nor do they matter.
			err = links.AskNeighbours(t.Context(), underlay, []netip.Addr{
				underlay.Address.Addr(), netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("192.0.2.2"),
			})
			if err != nil {
				t.Fatal(err)
			}
			// The other end learns who asked from the question itself.
			learned := func() bool {
				return strings.Contains(other.Run(t, "ip", "neighbour", "show", "dev", "eth0"), "192.0.2.1 lladdr "+underlay.MAC.String())
			}
			for deadline := time.Now().Add(5 * time.Second); userspace && !learned() && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond)
			}
			if learned() != userspace {
				t.Errorf("the other end was asked: %t, want %t", learned(), userspace)
			}
		})
	}
}

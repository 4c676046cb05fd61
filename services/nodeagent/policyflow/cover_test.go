package policyflow

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"pgregory.net/rapid"
)

func TestAnExceptionCostsOnlyItsPrefixes(t *testing.T) {
	tests := []struct {
		name, cidr string
		except     []string
		want       int
	}{
		{"nothing taken out", "10.0.0.0/8", nil, 1},
		{"a /24 out of a /8", "10.0.0.0/8", []string{"10.3.5.0/24"}, 16},
		{"an address out of everything", "0.0.0.0/0", []string{"10.3.5.7/32"}, 32},
		{"two halves of a part cost no more than the part", "10.0.0.0/8", []string{"10.3.4.0/24", "10.3.5.0/24"}, 15},
		{"a part of a part that is out costs nothing", "10.0.0.0/8", []string{"10.3.0.0/16", "10.3.5.0/24"}, 8},
		{"both halves out leave nothing", "10.0.0.0/8", []string{"10.0.0.0/9", "10.128.0.0/9"}, 0},
		{"IPv6 has no flows", "fd00::/8", []string{"fd00::/16"}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := policy.Block{CIDR: netip.MustParsePrefix(test.cidr)}
			for _, e := range test.except {
				b.Except = append(b.Except, netip.MustParsePrefix(e))
			}
			if got := Cover([]policy.Block{b}); len(got) != test.want {
				t.Errorf("got %d prefixes %v, want %d", len(got), got, test.want)
			}
		})
	}
}

func TestBlocksThatTouchAreOne(t *testing.T) {
	var blocks []policy.Block
	for i := range 256 {
		blocks = append(blocks, policy.Block{CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 2, byte(i)}), 32)})
	}
	if got := fmt.Sprint(Cover(blocks)); got != "[10.1.2.0/24]" {
		t.Errorf("got %s", got)
	}
}

// drawNear draws prefixes of 10.0.0.0/24, whose every address can be asked.
func drawNear(t *rapid.T) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "host")}), rapid.IntRange(24, 32).Draw(t, "bits")).Masked()
}

func TestACoverHoldsJustWhatTheBlocksHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) policy.Block {
			return policy.Block{CIDR: drawNear(t), Except: rapid.SliceOfN(rapid.Custom(drawNear), 0, 3).Draw(t, "except")}
		}), 0, 3).Draw(t, "blocks")
		cover := Cover(blocks)
		for i := range 256 {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			want := slices.ContainsFunc(blocks, func(b policy.Block) bool { return b.Holds(a) })
			n := 0
			for _, p := range cover {
				if p.Contains(a) {
					n++
				}
			}
			if want && n != 1 || !want && n != 0 {
				t.Fatalf("%s is in %d prefixes of %v, in the blocks: %v", a, n, cover, want)
			}
		}
		for i := 1; i < len(cover); i++ {
			a, b := cover[i-1], cover[i]
			if a.Bits() == b.Bits() && netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked() == netip.PrefixFrom(b.Addr(), b.Bits()-1).Masked() {
				t.Fatalf("%s and %s are one prefix", a, b)
			}
		}
	})
}

func TestPortsHoldJustWhatTheRangesHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ranges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) policy.PortRange {
			r := policy.PortRange{Protocol: drawProtocol(t), First: rapid.Uint16Range(1, 65535).Draw(t, "first")}
			r.Last = rapid.Uint16Range(r.First, 65535).Draw(t, "last")
			if rapid.IntRange(0, 9).Draw(t, "all") == 0 {
				r.First, r.Last = 0, 0
			}
			return r
		}), 0, 3).Draw(t, "ranges")
		masks := CoverPorts(ranges)
		for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP} {
			for port := range 1 << 16 {
				want := slices.ContainsFunc(ranges, func(r policy.PortRange) bool { return r.Holds(protocol, uint16(port)) })
				n := 0
				for _, m := range masks {
					if m.Protocol == protocol && uint16(port)&m.Mask == m.Port {
						n++
					}
				}
				if want && n != 1 || !want && n != 0 {
					t.Fatalf("%s %d is in %d of %v, in the ranges: %v", protocol, port, n, masks, want)
				}
			}
		}
	})
}

func TestARangeOfPortsHasNoPortZeroAndFewMasks(t *testing.T) {
	tests := []struct {
		first, last uint16
		want        int
	}{{80, 80, 1}, {1, 65535, 16}, {1000, 1999, 7}, {32768, 65535, 1}, {30000, 32767, 5}}
	for _, test := range tests {
		got := CoverPorts([]policy.PortRange{{Protocol: policy.TCP, First: test.first, Last: test.last}})
		if len(got) != test.want || got[0].Port == 0 && got[0].Mask != 0xffff {
			t.Errorf("%d-%d: got %d masks %v, want %d", test.first, test.last, len(got), got, test.want)
		}
	}
}

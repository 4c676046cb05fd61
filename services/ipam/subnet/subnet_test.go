package subnet_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/services/ipam/subnet"
)

func TestTheOrderIsOpenShiftsOrder(t *testing.T) {
	for _, tc := range []struct {
		prefix   string
		hostBits int
		want     map[uint32]string
	}{
		{"10.128.0.0/14", 9, map[uint32]string{
			0: "10.128.0.0/23", 1: "10.129.0.0/23", 2: "10.130.0.0/23", 3: "10.131.0.0/23", 4: "10.128.2.0/23", 5: "10.129.2.0/23", 511: "10.131.254.0/23",
		}},
		{"10.1.0.0/16", 6, map[uint32]string{
			0: "10.1.0.0/26", 1: "10.1.1.0/26", 255: "10.1.255.0/26", 256: "10.1.0.64/26", 257: "10.1.1.64/26", 1023: "10.1.255.192/26",
		}},
		{"10.0.0.0/14", 10, map[uint32]string{
			0: "10.0.0.0/22", 1: "10.1.0.0/22", 2: "10.2.0.0/22", 3: "10.3.0.0/22", 4: "10.0.4.0/22",
		}},
		{"10.128.0.0/14", 8, map[uint32]string{0: "10.128.0.0/24", 1: "10.128.1.0/24", 256: "10.129.0.0/24", 1023: "10.131.255.0/24"}},
		{"10.1.0.0/24", 6, map[uint32]string{0: "10.1.0.0/26", 1: "10.1.0.64/26", 3: "10.1.0.192/26"}},
		{"10.1.0.0/23", 9, map[uint32]string{0: "10.1.0.0/23"}},
		{"0.0.0.0/0", 30, map[uint32]string{0: "0.0.0.0/2", 3: "192.0.0.0/2"}},
	} {
		r, err := subnet.NewRange(canonical(tc.prefix), tc.hostBits)
		if err != nil {
			t.Fatalf("%s, %d: %v", tc.prefix, tc.hostBits, err)
		}
		for n, want := range tc.want {
			if got := r.At(n).String(); got != canonical(want).String() {
				t.Errorf("%s: subnet %d is %s, want %s", r, n, got, want)
			}
		}
	}
}

func canonical(s string) netip.Prefix { return netip.MustParsePrefix(s).Masked() }

func TestTheOrderNamesEverySubnetExactlyOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hostBits := rapid.IntRange(subnet.MinHostBits, subnet.MaxHostBits).Draw(t, "host bits")
		subnetBits := rapid.IntRange(0, min(32-hostBits, 14)).Draw(t, "subnet bits")
		address := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))
		r, err := subnet.NewRange(netip.PrefixFrom(address, 32-hostBits-subnetBits).Masked(), hostBits)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[netip.Prefix]bool, r.Count())
		for n := range r.Count() {
			p := r.At(n)
			if !r.Has(p) {
				t.Fatalf("subnet %d of %s is %s, which is none of it", n, r, p)
			}
			seen[p] = true
		}
		if len(seen) != 1<<subnetBits {
			t.Fatalf("%s: %d subnets instead of %d", r, len(seen), 1<<subnetBits)
		}
	})
}

func TestSubnetsAtAnOctetsBoundaryComeFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hostBits := rapid.IntRange(subnet.MinHostBits, 15).Draw(t, "host bits")
		subnetBits := rapid.IntRange(0, 12).Draw(t, "subnet bits")
		r, err := subnet.NewRange(netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 32-hostBits-subnetBits).Masked(), hostBits)
		if err != nil {
			t.Fatal(err)
		}
		shared := 3 - (hostBits-1)/8 // the octet with the host's highest bit
		last := byte(0)
		for n := range r.Count() {
			if octet := r.At(n).Addr().As4()[shared]; octet < last {
				t.Fatalf("%s: octet %d goes back at subnet %d", r, shared, n)
			} else if hostBits%8 != 0 {
				last = octet
			}
		}
	})
}

func TestARangeIsRefusedWhenItMakesNoSense(t *testing.T) {
	for _, tc := range []struct {
		prefix   string
		hostBits int
		want     string
	}{
		{"10.128.0.1/14", 9, "10.128.0.1/14 has host bits set; the range is 10.128.0.0/14"},
		{"fd00::/48", 9, "fd00::/48 is not an IPv4 range"},
		{"10.0.0.0/8", 1, "1 host bits are not within 2 to 30"},
		{"10.0.0.0/8", 31, "31 host bits are not within 2 to 30"},
		{"10.0.0.0/24", 9, "9 host bits are more than the 8 of 10.0.0.0/24"},
	} {
		_, err := subnet.NewRange(netip.MustParsePrefix(tc.prefix), tc.hostBits)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s, %d: got %v, want %q", tc.prefix, tc.hostBits, err, tc.want)
		}
	}
	if _, err := subnet.NewRange(netip.Prefix{}, 9); err == nil {
		t.Error("no prefix: accepted")
	}
}

func TestHas(t *testing.T) {
	r, err := subnet.NewRange(netip.MustParsePrefix("10.128.0.0/14"), 9)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]bool{
		"10.128.2.0/23": true, "10.131.254.0/23": true,
		"10.128.1.0/23": false, "10.128.0.0/22": false, "10.128.0.0/24": false, "10.132.0.0/23": false, "::/23": false,
	} {
		if got := r.Has(netip.MustParsePrefix(p)); got != want {
			t.Errorf("Has(%s) is %v", p, got)
		}
	}
}

func TestOverlapsAreFound(t *testing.T) {
	parse := func(list ...string) (prefixes []netip.Prefix) {
		for _, s := range list {
			prefixes = append(prefixes, netip.MustParsePrefix(s))
		}
		return prefixes
	}
	for _, tc := range []struct {
		list []netip.Prefix
		want []subnet.Pair
	}{
		{nil, nil},
		{parse("10.128.0.0/14", "10.132.0.0/14", "172.30.0.0/16"), nil},
		{parse("10.128.0.0/14", "10.131.0.0/16"), []subnet.Pair{{First: 0, Second: 1}}},
		{parse("10.131.0.0/16", "10.0.0.0/8", "10.131.0.0/16"), []subnet.Pair{{First: 0, Second: 1}, {First: 0, Second: 2}, {First: 1, Second: 2}}},
	} {
		if got := subnet.Overlaps(tc.list); !slices.Equal(got, tc.want) {
			t.Errorf("%v: got %v, want %v", tc.list, got, tc.want)
		}
	}
}

func ExampleRange_At() {
	r, err := subnet.NewRange(netip.MustParsePrefix("10.128.0.0/14"), 9)
	if err != nil {
		panic(err)
	}
	for n := range uint32(6) {
		fmt.Println(r.At(n))
	}
	// Output:
	// 10.128.0.0/23
	// 10.129.0.0/23
	// 10.130.0.0/23
	// 10.131.0.0/23
	// 10.128.2.0/23
	// 10.129.2.0/23
}

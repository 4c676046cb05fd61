package frame

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// packet is a frame with IPv4 and four bytes in it.
const packet = "020000000002020000000001" + "0800" + "450000180000400040110000" + "0a800002" + "0a800003" + "01020304"

func TestWhatIsReadOfAFrame(t *testing.T) {
	whole := IPv4{netip.MustParseAddr("10.128.0.2"), netip.MustParseAddr("10.128.0.3"), UDP, true, []byte{1, 2, 3, 4}}
	later := whole
	later.First = false
	for what, c := range map[string]struct {
		frame string
		want  IPv4
		ok    bool
	}{
		"a packet":                      {packet, whole, true},
		"padding of Ethernet":           {packet + "0000", whole, true},
		"options":                       {strings.NewReplacer("45000018", "4600001c", "0a800003", "0a80000301010100").Replace(packet), whole, true},
		"a later fragment":              {strings.Replace(packet, "00004000", "00000008", 1), later, true},
		"IPv6":                          {strings.Replace(packet, "0800", "86dd", 1), IPv4{}, false},
		"another version":               {strings.Replace(packet, "4500", "6500", 1), IPv4{}, false},
		"a header that is too short":    {strings.Replace(packet, "4500", "4400", 1), IPv4{}, false},
		"a header beyond the packet":    {strings.Replace(packet, "45000018", "4f000018", 1), IPv4{}, false},
		"less than the header says":     {packet[:len(packet)-2], IPv4{}, false},
		"a total shorter than a header": {strings.Replace(packet, "45000018", "45000010", 1), IPv4{}, false},
		"half a header":                 {packet[:50], IPv4{}, false},
		"nothing":                       {"", IPv4{}, false},
	} {
		bytes, err := hex.DecodeString(c.frame)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := Read(bytes)
		if ok != c.ok || got.Source != c.want.Source || got.Destination != c.want.Destination || got.Protocol != c.want.Protocol ||
			got.First != c.want.First || !slices.Equal(got.Payload, c.want.Payload) {
			t.Errorf("%s: got %+v, %t, want %+v, %t", what, got, ok, c.want, c.ok)
		}
	}
}

func FuzzRead(f *testing.F) {
	seed, err := hex.DecodeString(packet)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, ok := Read(frame)
		if ok && (!p.Source.Is4() || !p.Destination.Is4() || len(p.Payload) > len(frame)-ethernetHeader-ipv4Header) {
			t.Errorf("read %+v", p)
		}
	})
}

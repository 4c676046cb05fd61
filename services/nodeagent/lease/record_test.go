package lease

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

func sample() *cniv1.Attachment {
	return &cniv1.Attachment{
		ContainerId: "abc", Ifname: "eth0", PodNamespace: "shop", PodName: "web", Netns: "/run/netns/x",
		Ips: []string{"10.130.0.2/23"}, Mac: "0a:58:0a:82:00:02", HostVeth: "veth12345678", Ofport: 3,
		Labels: map[string]string{"app": "web"},
	}
}

// FuzzRecord checks that no body breaks the decoder, and that what it accepts is
// written back with the same meaning.
func FuzzRecord(f *testing.F) {
	body, err := encodeLease(Lease{Attachment: sample(), Attached: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add(encodeKey(recordAttached, Key{"abc", "eth0"}))
	f.Add(encodeKey(recordReleased, Key{"abc", "eth0"}))
	f.Add(encodeNumber(recordFreedAddress, 0x0a820002))
	f.Add(encodeNumber(recordFreedPort, 3))
	f.Add(encodeSubnet(netip.MustParsePrefix("10.130.0.0/23")))
	f.Add([]byte{})
	f.Add([]byte{99, 1, 2, 3})
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decode(body)
		if err != nil {
			return
		}
		var again []byte
		switch r.kind {
		case recordLease:
			if again, err = encodeLease(r.lease); err != nil {
				t.Fatalf("encode what was decoded: %v", err)
			}
			back, err := decode(again)
			if err != nil || back.lease.Attached != r.lease.Attached || !proto.Equal(back.lease.Attachment, r.lease.Attachment) {
				t.Fatalf("round trip: %v became %v (%v)", r.lease, back.lease, err)
			}
			return // protobuf may write it in another order
		case recordFreedAddress, recordFreedPort:
			again = encodeNumber(r.kind, r.number)
		case recordSubnet:
			again = encodeSubnet(r.subnet)
		default:
			again = encodeKey(r.kind, r.key)
		}
		if !bytes.Equal(again, body) {
			t.Fatalf("round trip: %x became %x", body, again)
		}
	})
}

// FuzzLog gives any bytes as a whole log: the store opens or refuses, and when
// it opens, what it holds can be written and read again.
func FuzzLog(f *testing.F) {
	body, err := encodeLease(Lease{Attachment: sample()})
	if err != nil {
		f.Fatal(err)
	}
	whole := frame([]byte(logFormat), encodeSubnet(netip.MustParsePrefix("10.130.0.0/23")))
	whole = frame(whole, body)
	whole = frame(whole, encodeKey(recordAttached, Key{"abc", "eth0"}))
	f.Add(whole)
	f.Add(frame(whole, encodeKey(recordReleased, Key{"abc", "eth0"})))
	f.Add(whole[:len(whole)-3])
	f.Add([]byte(logFormat[:5]))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, logName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir)
		if err != nil {
			return
		}
		before := len(s.leases)
		a, err := s.Allocate(netip.MustParsePrefix("10.130.0.0/23"), &cniv1.Attachment{ContainerId: "fuzz-owner", Ifname: "eth9"}, Wish{})
		if err != nil {
			t.Fatalf("allocate: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, err = Open(dir)
		if err != nil {
			t.Fatalf("open again: %v", err)
		}
		defer s.Close()
		if len(s.leases) != before+1 {
			t.Fatalf("%d leases, want %d", len(s.leases), before+1)
		}
		if l, ok := s.Lookup(KeyOf(a)); !ok || !proto.Equal(l.Attachment, a) {
			t.Fatalf("lease is %v, want %v", l.Attachment, a)
		}
	})
}

// TestDamagedBytesAreNeverBelieved flips every bit of a log: a lease is either
// as it was, or it and what follows it are cut off.
func TestDamagedBytesAreNeverBelieved(t *testing.T) {
	body, err := encodeLease(Lease{Attachment: sample()})
	if err != nil {
		t.Fatal(err)
	}
	whole := frame([]byte(logFormat), body)
	for bit := len(logFormat) * 8; bit < len(whole)*8; bit++ {
		data := bytes.Clone(whole)
		data[bit/8] ^= 1 << (bit % 8)
		good, err := scan(data, func([]byte) error { return nil })
		if err != nil || good != int64(len(logFormat)) {
			t.Errorf("bit %d flipped: %d bytes were believed (%v), want %d", bit, good, err, len(logFormat))
		}
	}
}

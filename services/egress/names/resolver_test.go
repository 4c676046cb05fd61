package names

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/damask-sdn/damask/services/egress/names/zonetest"
)

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

// nowhere is an address where nothing listens.
const nowhere = "127.0.0.1:1"

func TestNamesAreResolvedWhateverTheServerAnswers(t *testing.T) {
	z := zonetest.Start(t)
	z.Set("www.example.com", "www.example.com 300 A 192.0.2.2", "www.example.com 60 A 192.0.2.1", "www.example.com 60 A 192.0.2.1")
	z.Set("alias.example.com", "alias.example.com 20 CNAME b.example.net", "b.example.net 600 CNAME c.example.net", "c.example.net 300 A 192.0.2.3", "other.example.net 1 A 192.0.2.99")
	z.Set("cut.example.com", "cut.example.com 50 CNAME WWW.example.com") // the server does not follow it
	z.Set("loop.example.com", "loop.example.com 50 CNAME loop2.example.com", "loop2.example.com 50 CNAME loop.example.com")
	z.Set("chain.example.com", "chain.example.com 50 CNAME chain.example.com")
	z.Set("empty.example.com", "empty.example.com 50 TXT nothing")
	z.Set("zero.example.com", "zero.example.com 0 A 192.0.2.5")
	z.Set("dead-end.example.com", "dead-end.example.com 50 CNAME nowhere.example.com")
	z.Refuse("broken.example.com", dns.RcodeServerFailure)
	z.Many("many.example.com", 40, 500)
	cases := []struct {
		name  string
		count int
		first string
		ttl   time.Duration
		err   string
	}{
		{"www.example.com", 2, "192.0.2.1", 60 * time.Second, ""},
		{"alias.example.com", 1, "192.0.2.3", 20 * time.Second, ""},
		{"cut.example.com", 2, "192.0.2.1", 50 * time.Second, ""},
		{"zero.example.com", 1, "192.0.2.5", 0, ""},
		{"many.example.com", 500, "198.51.0.1", 40 * time.Second, ""},
		{"loop.example.com", 0, "", 0, "aliases lead from"},
		{"chain.example.com", 0, "", 0, "aliases lead from"},
		{"empty.example.com", 0, "", 0, ErrNoAddress.Error()},
		{"missing.example.com", 0, "", 0, ErrNoAddress.Error()},
		{"dead-end.example.com", 0, "", 0, ErrNoAddress.Error()},
		{"broken.example.com", 0, "", 0, "the server answers SERVFAIL"},
	}
	r := NewResolver([]string{z.Address}, "")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := r.Lookup(t.Context(), c.name)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, %v, want %q", got, err, c.err)
				}
				return
			}
			if err != nil || len(got.Addresses) != c.count || got.Addresses[0].String() != c.first || got.TTL != c.ttl {
				t.Errorf("got %d addresses, %v, want %d from %s with TTL %v", len(got.Addresses), err, c.count, c.first, c.ttl)
			}
		})
	}
	if z.TCP() == 0 {
		t.Error("an answer that was cut off was not asked for over TCP")
	}
}

func TestASecondServerIsAskedWhenTheFirstFails(t *testing.T) {
	broken, good := zonetest.Start(t), zonetest.Start(t)
	broken.Refuse("www.example.com", dns.RcodeServerFailure)
	good.Set("www.example.com", "www.example.com 60 A 192.0.2.1")
	good.RefuseExtensions()
	r := NewResolver([]string{nowhere, broken.Address, good.Address}, "")
	got, err := r.Lookup(t.Context(), "www.example.com")
	if err != nil || !slices.Equal(got.Addresses, addrs("192.0.2.1")) {
		t.Errorf("got %v, %v", got, err)
	}
	// That a name does not exist is an answer: nobody else is asked.
	if _, err := r.Lookup(t.Context(), "missing.example.com"); !errors.Is(err, ErrNoAddress) || good.Count("missing.example.com") != 0 {
		t.Errorf("missing: %v, the second server was asked %d times", err, good.Count("missing.example.com"))
	}
	_, err = NewResolver([]string{nowhere, broken.Address}, "").Lookup(t.Context(), "www.example.com")
	if want := "ask 127.0.0.1:1: read: connection refused\nask " + broken.Address + ": the server answers SERVFAIL"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestServersComeFromResolvConf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	r := NewResolver(nil, file)
	if _, err := r.Lookup(t.Context(), "www.example.com"); err == nil || errors.Is(err, ErrNoAddress) {
		t.Errorf("without the file: %v", err)
	}
	if err := os.WriteFile(file, []byte("search example.com\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile := []string{"192.0.2.53:53", "192.0.2.54:53"}
	if got, err := r.servers(); err != nil || !slices.Equal(got, fromFile) {
		t.Errorf("got %v, %v", got, err)
	}
	// Others are asked from the moment on that somebody says so.
	for _, configured := range [][]string{{"192.0.2.1:53"}, {"192.0.2.2:53", "192.0.2.1:53"}, nil} {
		want := configured
		if len(want) == 0 {
			want = fromFile
		}
		r.Ask(configured)
		if got, err := r.servers(); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
}

// FuzzRead reads replies from bytes of the network.
func FuzzRead(f *testing.F) {
	for _, text := range []string{"www.example.com. 60 IN A 192.0.2.1", "www.example.com. 60 IN CNAME www.example.com.", "www.example.com. 60 IN TXT x"} {
		record, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m := new(dns.Msg)
		m.SetQuestion("www.example.com.", dns.TypeA)
		m.Response, m.Answer = true, []dns.RR{record, record}
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		found, end, ttl, err := read(m, "www.example.com.")
		if err != nil {
			return
		}
		if end != dns.CanonicalName(end) || !slices.IsSortedFunc(found, netip.Addr.Compare) {
			t.Errorf("%v %q", found, end)
		}
		for _, addr := range found {
			if !addr.Is4() {
				t.Errorf("%v is not IPv4", addr)
			}
		}
		_ = ttl
	})
}

func TestALookUpEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewResolver([]string{nowhere, nowhere, nowhere}, "").Lookup(ctx, "www.example.com"); err == nil {
		t.Error("it succeeded")
	}
}

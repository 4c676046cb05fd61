package lease_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"google.golang.org/protobuf/proto"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

var subnet = netip.MustParsePrefix("10.130.0.0/23")

func owner(n int) *cniv1.Attachment {
	return &cniv1.Attachment{
		ContainerId: fmt.Sprintf("sandbox%d", n), Ifname: "eth0", Netns: fmt.Sprintf("/run/netns/%d", n),
		PodNamespace: "shop", PodName: fmt.Sprintf("web-%d", n), PodUid: fmt.Sprintf("uid-%d", n), Labels: map[string]string{"app": "web"},
		Ports: []*cniv1.ContainerPort{{Name: "web", ContainerPort: 80}},
	}
}

func open(t *testing.T, dir string) *lease.Store {
	t.Helper()
	s, err := lease.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// reopen is what a restart of the agent does.
func reopen(t *testing.T, s *lease.Store, dir string) *lease.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

func allocate(t *testing.T, s *lease.Store, n int, wish lease.Wish) *cniv1.Attachment {
	t.Helper()
	a, err := s.Allocate(subnet, owner(n), wish)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAllocationIsTheWholeAttachment(t *testing.T) {
	s := open(t, t.TempDir())
	got := allocate(t, s, 1, lease.Wish{})
	if !regexp.MustCompile(`^veth[0-9a-f]{8}$`).MatchString(got.HostVeth) {
		t.Errorf("veth is %q, want veth and 8 hex digits", got.HostVeth)
	}
	want := owner(1)
	want.Ips = []string{"10.130.0.2/23"} // .0 is the network, .1 is tun0
	want.Mac = "0a:58:0a:82:00:02"
	want.Ofport = 3
	want.HostVeth = got.HostVeth
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestSubnetIsFullAfter509Pods(t *testing.T) {
	s := open(t, t.TempDir())
	seen := map[string]bool{}
	for n := range 509 {
		a := allocate(t, s, n, lease.Wish{})
		if seen[a.Ips[0]] {
			t.Fatalf("%s was given twice", a.Ips[0])
		}
		seen[a.Ips[0]] = true
	}
	for _, reserved := range []string{"10.130.0.0/23", "10.130.0.1/23", "10.130.1.255/23"} {
		if seen[reserved] {
			t.Errorf("%s was given to a pod", reserved)
		}
	}
	if _, err := s.Allocate(subnet, owner(509), lease.Wish{}); !errors.Is(err, lease.ErrFull) {
		t.Errorf("pod 510: got %v, want ErrFull", err)
	}
	if free, total := s.Free(); free != 0 || total != 509 {
		t.Errorf("free %d of %d, want 0 of 509", free, total)
	}
}

func TestFreedIsReusedLastAlsoAfterRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	small := netip.MustParsePrefix("10.130.0.0/29") // pods: .2 to .6
	give := func(n int) string {
		t.Helper()
		a, err := s.Allocate(small, owner(n), lease.Wish{})
		if err != nil {
			t.Fatal(err)
		}
		return a.Ips[0]
	}
	release := func(n int) {
		t.Helper()
		if err := s.Release(lease.KeyOf(owner(n))); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 4 {
		give(n) // .2 .3 .4 .5
	}
	release(2) // .4
	release(0) // .2
	s = reopen(t, s, dir)
	for n, want := range []string{"10.130.0.6/29", "10.130.0.4/29", "10.130.0.2/29"} {
		if got := give(10 + n); got != want {
			t.Errorf("allocation %d after the restart: got %s, want %s", n, got, want)
		}
	}
}

func TestWishes(t *testing.T) {
	for name, c := range map[string]struct {
		wish lease.Wish
		want error
	}{
		"a free address is given":             {lease.Wish{Address: netip.MustParseAddr("10.130.1.77")}, nil},
		"a free port is given":                {lease.Wish{OFPort: 4000}, nil},
		"the last port is given":              {lease.Wish{OFPort: 65279}, nil},
		"a taken address is refused":          {lease.Wish{Address: netip.MustParseAddr("10.130.0.2")}, lease.ErrAddressTaken},
		"a taken port is refused":             {lease.Wish{OFPort: 3}, lease.ErrPortTaken},
		"the gateway is refused":              {lease.Wish{Address: netip.MustParseAddr("10.130.0.1")}, lease.ErrBadWish},
		"the network is refused":              {lease.Wish{Address: netip.MustParseAddr("10.130.0.0")}, lease.ErrBadWish},
		"the broadcast address is refused":    {lease.Wish{Address: netip.MustParseAddr("10.130.1.255")}, lease.ErrBadWish},
		"another subnet's address is refused": {lease.Wish{Address: netip.MustParseAddr("10.131.0.5")}, lease.ErrBadWish},
		"an IPv6 address is refused":          {lease.Wish{Address: netip.MustParseAddr("fd00::5")}, lease.ErrBadWish},
		"the port of tun0 is refused":         {lease.Wish{OFPort: 2}, lease.ErrBadWish},
		"a reserved port is refused":          {lease.Wish{OFPort: 65280}, lease.ErrBadWish},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			allocate(t, s, 1, lease.Wish{})
			got, err := s.Allocate(subnet, owner(2), c.wish)
			if !errors.Is(err, c.want) {
				t.Fatalf("got error %v, want %v", err, c.want)
			}
			if err != nil {
				if _, ok := s.Lookup(lease.KeyOf(owner(2))); ok {
					t.Error("a refused wish left a lease")
				}
				return
			}
			if c.wish.OFPort != 0 && got.Ofport != c.wish.OFPort {
				t.Errorf("got port %d, want %d", got.Ofport, c.wish.OFPort)
			}
			if c.wish.Address.IsValid() && got.Ips[0] != c.wish.Address.String()+"/23" {
				t.Errorf("got address %s, want %s", got.Ips[0], c.wish.Address)
			}
		})
	}
}

func TestOldLeasesStayWhenTheSubnetChanges(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	old := allocate(t, s, 1, lease.Wish{})
	moved := netip.MustParsePrefix("10.129.2.0/23")
	fresh, err := s.Allocate(moved, owner(2), lease.Wish{})
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Ips[0] != "10.129.2.2/23" {
		t.Errorf("got %s, want an address of the new subnet", fresh.Ips[0])
	}
	s = reopen(t, s, dir)
	l, ok := s.Lookup(lease.KeyOf(old))
	if !ok || !proto.Equal(l.Attachment, old) {
		t.Errorf("old lease: got %v, want %v", l.Attachment, old)
	}
	if err := s.Release(lease.KeyOf(old)); err != nil {
		t.Fatal(err)
	}
	if free, total := s.Free(); free != 508 || total != 509 {
		t.Errorf("free %d of %d, want 508 of 509: an old address must not count", free, total)
	}
}

func TestStateOfAnAttachmentSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for n := range 3 {
		allocate(t, s, n, lease.Wish{})
	}
	for _, n := range []int{1, 2} {
		if err := s.Attached(lease.KeyOf(owner(n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Detaching(lease.KeyOf(owner(2))); err != nil {
		t.Fatal(err)
	}
	moved, err := s.Amend(lease.KeyOf(owner(1)), lease.Change{
		Netns: "/proc/7/ns/net", Labels: map[string]string{"app": "db"}, OFPort: 900, NewVeth: true,
		Ports: []*cniv1.ContainerPort{{Name: "http", ContainerPort: 8080}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, dir)
	for n, want := range []bool{false, true, false} {
		if l, ok := s.Lookup(lease.KeyOf(owner(n))); !ok || l.Attached != want {
			t.Errorf("attachment %d: known %t attached %t, want known and attached %t", n, ok, l.Attached, want)
		}
	}
	if l, _ := s.Lookup(lease.KeyOf(owner(1))); !proto.Equal(l.Attachment, moved) || moved.Ofport != 900 || len(moved.GetPorts()) != 1 {
		t.Errorf("got %v, want %v", l.Attachment, moved)
	}
	if err := s.Attached(lease.Key{ContainerID: "nobody", Ifname: "eth0"}); !errors.Is(err, lease.ErrUnknown) {
		t.Errorf("unknown attachment: got %v, want ErrUnknown", err)
	}
}

func TestAdoptionNeverTakesWhatIsGiven(t *testing.T) {
	s := open(t, t.TempDir())
	given := allocate(t, s, 1, lease.Wish{})
	stray := owner(2)
	stray.HostVeth, stray.Ofport, stray.Ips = "veth00000001", 77, []string{"10.130.0.9/23"}
	if err := s.Adopt(stray); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*cniv1.Attachment)
		want   error
	}{
		"address":    {func(a *cniv1.Attachment) { a.Ips = given.Ips }, lease.ErrAddressTaken},
		"port":       {func(a *cniv1.Attachment) { a.Ofport = given.Ofport }, lease.ErrPortTaken},
		"attachment": {func(a *cniv1.Attachment) { a.ContainerId = "sandbox1" }, lease.ErrExists},
	} {
		a := owner(3)
		a.HostVeth, a.Ofport, a.Ips = "veth00000002", 78, []string{"10.130.0.10/23"}
		c.change(a)
		if err := s.Adopt(a); !errors.Is(err, c.want) {
			t.Errorf("%s of another: got %v, want %v", name, err, c.want)
		}
	}
}

// TestWhatWasAdoptedIsGivenAgainAfterAllOthers is a node that was taken over: it has given
// nothing out itself when the first of its pods goes.
func TestWhatWasAdoptedIsGivenAgainAfterAllOthers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 2 {
		a := owner(i)
		a.HostVeth, a.Ofport, a.Ips = fmt.Sprintf("veth0000000%d", i), uint32(3+i), []string{fmt.Sprintf("10.130.0.%d/23", 2+i)}
		if err := s.Adopt(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Release(lease.KeyOf(owner(1))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := allocate(t, open(t, dir), 7, lease.Wish{}).GetIps()[0]; got != "10.130.0.4/23" {
		t.Errorf("the next pod has %s, want one that nobody had", got)
	}
}

func TestDirectoryIsForOneAgentAndForRoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	s := open(t, dir)
	allocate(t, s, 1, lease.Wish{})
	if _, err := lease.Open(dir); err == nil {
		t.Error("a second store opened the same directory")
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "leases.log"): 0o600, filepath.Join(dir, "lock"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("mode of %s is %o, want %o", path, info.Mode().Perm(), want)
		}
	}
}

func TestForeignFileIsNotOverwritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "leases.log")
	if err := os.WriteFile(path, []byte("somebody's notes, longer than a line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lease.Open(dir); err == nil {
		t.Fatal("a foreign file was taken for a lease log")
	}
	if got, _ := os.ReadFile(path); string(got) != "somebody's notes, longer than a line\n" {
		t.Errorf("the file was changed: %q", got)
	}
}

func BenchmarkAllocateAndRelease(b *testing.B) {
	for _, leases := range []int{10, 500, 60000} {
		b.Run(fmt.Sprintf("beside %d leases", leases), func(b *testing.B) {
			s, err := lease.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			wide := netip.MustParsePrefix("10.128.0.0/15")
			for n := range leases {
				if _, err := s.Allocate(wide, owner(n), lease.Wish{}); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				a, err := s.Allocate(wide, owner(leases), lease.Wish{})
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Release(lease.KeyOf(a)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// connectTime bounds one try to connect, and lookupTime one look-up: as the
	// ancestor's proxies have it.
	connectTime = 10 * time.Second
	lookupTime  = 5 * time.Second
)

// errRefused says that the destination is none that may be asked for.
var errRefused = errors.New("not an allowed destination")

// outward opens connections by one interface.
type outward struct {
	device   string
	resolver *net.Resolver
}

func newOutward(device string) *outward {
	// With Go's own resolver what is asked for is what was judged: no /etc/hosts of
	// somebody else's making by way of the C library's modules.
	return &outward{device: device, resolver: &net.Resolver{PreferGo: true}}
}

// dial connects to an address. It is errRefused if that is one that nobody outside can
// have.
func (o *outward) dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	addr := to.Addr()
	if !addr.Is4() || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || to.Port() == 0 {
		return nil, fmt.Errorf("%w: %s", errRefused, to)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list own addresses: %w", err)
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == addr {
			return nil, fmt.Errorf("%w: %s is the router itself", errRefused, addr)
		}
	}
	dialer := net.Dialer{Timeout: connectTime, Control: onDevice(o.device)}
	conn, err := dialer.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// lookup finds the IPv4 addresses of a name, and of no other: search domains are for
// names in the cluster.
func (o *outward) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	addrs, err := o.resolver.LookupNetIP(ctx, "ip4", name+".")
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// onDevice ties a socket to an interface. Anybody may, once (Linux 5.7).
func onDevice(device string) func(network, address string, conn syscall.RawConn) error {
	return func(_, _ string, conn syscall.RawConn) error {
		var failed error
		err := conn.Control(func(fd uintptr) { failed = unix.BindToDevice(int(fd), device) })
		if err = errors.Join(err, failed); err != nil {
			return fmt.Errorf("use interface %s: %w", device, err)
		}
		return nil
	}
}

// listen listens on a port of every interface but the one that leads outward.
func (o *outward) listen(ctx context.Context, port uint16) ([]net.Listener, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	if !slices.ContainsFunc(devices, func(d net.Interface) bool { return d.Name == o.device }) {
		return nil, fmt.Errorf("the pod has no %s: it is no egress router, or not by Damask", o.device)
	}
	var all []net.Listener
	for _, d := range devices {
		if d.Name == o.device || d.Flags&net.FlagUp == 0 {
			continue
		}
		config := net.ListenConfig{Control: onDevice(d.Name)}
		l, err := config.Listen(ctx, "tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
			return nil, fmt.Errorf("listen on %s, port %d: %w", d.Name, port, err)
		}
		all = append(all, l)
	}
	return all, nil
}

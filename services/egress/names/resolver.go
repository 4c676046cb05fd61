// Package names finds out and keeps the addresses of DNS names, once for the
// whole cluster.
//
// It owns dnsname in the store. It promises that a name's time to live is kept,
// with a floor; that a look-up that fails is tried again with growing pauses, the
// first as well as a later one; that addresses stay while the servers do not
// answer; that an address which a name no longer has stays for as long as pods
// may remember it; and that a slow name delays none whose servers answer, nor many
// names of a namespace the few of another. One replica looks names up, the one with
// the lease. It must not know what rules do with them.
package names

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// queryTime bounds one question to one server, over UDP or TCP.
	queryTime = 2 * time.Second
	// udpSize is the largest answer over UDP that is asked for: it crosses any
	// network in one piece (DNS flag day 2020).
	udpSize = 1232
	// maxAliases bounds a chain of CNAME records.
	maxAliases = 16
)

// ErrNoAddress says that the name does not exist, or has no IPv4 address: a
// server's answer, not a failure.
var ErrNoAddress = errors.New("the name has no IPv4 address")

// Answer is what a name resolves to.
type Answer struct {
	// Addresses are its IPv4 addresses, in order.
	Addresses []netip.Addr
	// TTL is how long they hold: the shortest of the records that lead to them.
	TTL time.Duration
}

// Resolver asks recursive servers. It is safe for concurrent use.
type Resolver struct {
	resolvConf string
	configured atomic.Pointer[[]string]
}

// NewResolver returns a resolver that asks servers, "HOST:PORT", one after the
// other. Without any, it asks those of the file resolv.conf, read at each
// look-up.
func NewResolver(servers []string, resolvConf string) *Resolver {
	r := &Resolver{resolvConf: resolvConf}
	r.Ask(servers)
	return r
}

// Ask says which servers look-ups ask that begin from now on, as NewResolver does.
func (r *Resolver) Ask(servers []string) {
	servers = slices.Clone(servers)
	r.configured.Store(&servers)
}

func (r *Resolver) servers() ([]string, error) {
	if configured := *r.configured.Load(); len(configured) > 0 {
		return configured, nil
	}
	file, err := dns.ClientConfigFromFile(r.resolvConf)
	if err != nil {
		return nil, fmt.Errorf("read the names of DNS servers: %w", err)
	}
	var list []string
	for _, server := range file.Servers {
		list = append(list, net.JoinHostPort(server, file.Port))
	}
	return list, nil
}

// Lookup finds the addresses of a name. It is ErrNoAddress if a server says that
// there are none; any other error means that no server gave an answer.
func (r *Resolver) Lookup(ctx context.Context, name string) (Answer, error) {
	servers, err := r.servers()
	if err != nil {
		return Answer{}, err
	}
	var problems []error
	for _, server := range servers {
		answer, err := lookup(ctx, server, name)
		if err == nil || errors.Is(err, ErrNoAddress) {
			return answer, err
		}
		problems = append(problems, fmt.Errorf("ask %s: %w", server, plain(err)))
		if ctx.Err() != nil {
			break
		}
	}
	if len(problems) == 0 {
		return Answer{}, errors.New("no DNS server is known")
	}
	return Answer{}, errors.Join(problems...)
}

// plain is an error of the network without the addresses in it: the port of our
// end differs each time, and the text is told to every node.
func plain(err error) error {
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		return fmt.Errorf("no answer within %v", queryTime)
	}
	var operation *net.OpError
	if errors.As(err, &operation) {
		return operation.Err
	}
	return err
}

// lookup asks one server, and follows aliases that it does not follow itself.
func lookup(ctx context.Context, server, name string) (Answer, error) {
	asked, ttl := dns.CanonicalName(name), ^uint32(0)
	for range maxAliases {
		reply, err := exchange(ctx, server, asked)
		if err != nil {
			return Answer{}, err
		}
		found, next, shortest, err := read(reply, asked)
		if err != nil {
			return Answer{}, err
		}
		ttl = min(ttl, shortest)
		if len(found) > 0 {
			return Answer{Addresses: found, TTL: time.Duration(ttl) * time.Second}, nil
		}
		if next == asked {
			return Answer{}, ErrNoAddress
		}
		asked = next
	}
	return Answer{}, fmt.Errorf("more than %d aliases lead from %s", maxAliases, name)
}

// exchange asks one question: over UDP, and over TCP if the answer did not fit;
// without extensions if the server does not know them.
func exchange(ctx context.Context, server, name string) (*dns.Msg, error) {
	question := new(dns.Msg)
	question.SetQuestion(name, dns.TypeA)
	question.SetEdns0(udpSize, false)
	reply, err := ask(ctx, server, question)
	if err == nil && (reply.Rcode == dns.RcodeFormatError || reply.Rcode == dns.RcodeNotImplemented) {
		question.Extra = nil
		reply, err = ask(ctx, server, question)
	}
	return reply, err
}

func ask(ctx context.Context, server string, question *dns.Msg) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network, Timeout: queryTime, UDPSize: udpSize}
		reply, _, err := client.ExchangeContext(ctx, question, server)
		// A cut message may not even be whole enough to be read.
		if network == "udp" && (err == nil && reply.Truncated || reply != nil && reply.Truncated) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return reply, nil
	}
	return nil, errors.New("the answer is cut off even over TCP")
}

// read answers the addresses in a reply for a name, and where its aliases end:
// at the name itself if it has none. ttl is the shortest on the way.
func read(reply *dns.Msg, name string) (found []netip.Addr, end string, ttl uint32, err error) {
	if len(reply.Question) != 1 || dns.CanonicalName(reply.Question[0].Name) != name || reply.Question[0].Qtype != dns.TypeA {
		return nil, "", 0, errors.New("the reply is to another question")
	}
	switch reply.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		// With aliases, it is the end of the chain that does not exist.
		return nil, "", 0, ErrNoAddress
	default:
		return nil, "", 0, fmt.Errorf("the server answers %s", dns.RcodeToString[reply.Rcode])
	}
	aliases := map[string]*dns.CNAME{}
	for _, record := range reply.Answer {
		if alias, ok := record.(*dns.CNAME); ok {
			aliases[dns.CanonicalName(alias.Hdr.Name)] = alias
		}
	}
	ttl, end = ^uint32(0), name
	for range maxAliases {
		alias := aliases[end]
		if alias == nil {
			break
		}
		ttl, end = min(ttl, alias.Hdr.Ttl), dns.CanonicalName(alias.Target)
	}
	if aliases[end] != nil {
		return nil, "", 0, fmt.Errorf("more than %d aliases lead from %s", maxAliases, name)
	}
	for _, record := range reply.Answer {
		a, ok := record.(*dns.A)
		if !ok || dns.CanonicalName(a.Hdr.Name) != end {
			continue
		}
		if addr, ok := netip.AddrFromSlice(a.A.To4()); ok {
			found = append(found, addr)
			ttl = min(ttl, a.Hdr.Ttl)
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return slices.Compact(found), end, ttl, nil
}

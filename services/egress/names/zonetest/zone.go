// Package zonetest runs a real DNS server for tests, over UDP and TCP.
//
// It promises to answer exactly what a test set, cut to size over UDP, and to
// stop with the test. It is no recursive server: it knows nothing else.
package zonetest

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// Zone is a server whose answers a test writes.
type Zone struct {
	// Address is where it listens, "IP:PORT".
	Address string

	mu      sync.Mutex
	records map[string][]dns.RR // by canonical name
	rcode   map[string]int
	asked   map[string]int
	silent  map[string]bool
	rotates map[string]bool
	tcp     atomic.Int64
	plain   atomic.Bool
}

// Start starts a server that knows no name.
func Start(t testing.TB) *Zone {
	t.Helper()
	z := &Zone{records: map[string][]dns.RR{}, rcode: map[string]int{}, asked: map[string]int{}, silent: map[string]bool{}, rotates: map[string]bool{}}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z.Address = packets.LocalAddr().String()
	stream, err := net.Listen("tcp", z.Address)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: z}, {Listener: stream, Handler: z}} {
		ready := make(chan struct{})
		server.NotifyStartedFunc = func() { close(ready) }
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.ActivateAndServe()
		}()
		<-ready
		t.Cleanup(func() {
			_ = server.Shutdown()
			<-done
		})
	}
	return z
}

// Set replaces the records of a name, in the text form of zone files.
func (z *Zone) Set(name string, records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.rcode, dns.CanonicalName(name))
	delete(z.silent, dns.CanonicalName(name))
	delete(z.rotates, dns.CanonicalName(name))
	z.records[dns.CanonicalName(name)] = nil
	for _, text := range records {
		record, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		z.records[dns.CanonicalName(name)] = append(z.records[dns.CanonicalName(name)], record)
	}
}

// Many is a name with a number of addresses.
func (z *Zone) Many(name string, ttl, count int) {
	var records []string
	for i := range count {
		records = append(records, fmt.Sprintf("%s %d A 198.51.%d.%d", name, ttl, i/250, i%250+1))
	}
	z.Set(name, records...)
}

// Rotate is a name of which each question is answered with another of some
// addresses, as a server does that spreads clients.
func (z *Zone) Rotate(name string, addresses ...string) {
	var records []string
	for _, address := range addresses {
		records = append(records, fmt.Sprintf("%s 300 A %s", name, address))
	}
	z.Set(name, records...)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rotates[dns.CanonicalName(name)] = true
}

// Silence makes questions for a name stay without answer.
func (z *Zone) Silence(name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.silent[dns.CanonicalName(name)] = true
}

// Refuse makes questions for a name end with a code.
func (z *Zone) Refuse(name string, rcode int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rcode[dns.CanonicalName(name)] = rcode
}

// Count answers how often a name was asked for.
func (z *Zone) Count(name string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked[dns.CanonicalName(name)]
}

// ServeDNS answers what is set, whatever the record's owner: aliases and what
// they lead to may be in one answer, as recursive servers give them.
func (z *Zone) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name := dns.CanonicalName(r.Question[0].Name)
	z.asked[name]++
	if z.silent[name] {
		return
	}
	reply := new(dns.Msg)
	reply.SetReply(r)
	records, known := z.records[name]
	switch code, refused := z.rcode[name]; {
	case refused:
		reply.Rcode = code
	case z.plain.Load() && r.IsEdns0() != nil:
		reply.Rcode = dns.RcodeFormatError
	case !known:
		reply.Rcode = dns.RcodeNameError
	}
	if z.rotates[name] {
		records = records[z.asked[name]%len(records):][:1]
	}
	reply.Answer = records
	if _, isTCP := w.RemoteAddr().(*net.TCPAddr); isTCP {
		z.tcp.Add(1)
	} else {
		size := dns.MinMsgSize
		if o := r.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		reply.Truncate(size)
	}
	_ = w.WriteMsg(reply)
}

// TCP answers how many questions came over TCP.
func (z *Zone) TCP() int64 { return z.tcp.Load() }

// RefuseExtensions makes the server one that does not know EDNS.
func (z *Zone) RefuseExtensions() { z.plain.Store(true) }

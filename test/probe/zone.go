package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// zoneServer is a DNS server as recursive ones are seen from outside: aliases and what
// they lead to are in one answer, and over UDP an answer is cut to the size that the client
// takes. What it knows is in a file, which may change at any moment.
type zoneServer struct {
	file string

	mu      sync.Mutex
	written time.Time
	records map[string][]dns.RR // by canonical name
	asked   map[string]*questions
}

// questions are how often a name was asked for.
type questions struct {
	UDP int `json:"udp"`
	TCP int `json:"tcp"`
}

// serveZone answers by UDP and TCP from a zone file (RFC 1035, section 5) until standard
// input closes; then it prints how often each name was asked for.
func serveZone(port, file string) error {
	z := &zoneServer{file: file, asked: map[string]*questions{}}
	if err := z.read(); err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp4", ":"+port)
	if err != nil {
		return err
	}
	stream, err := net.Listen("tcp4", ":"+port)
	if err != nil {
		return err
	}
	servers := []*dns.Server{{PacketConn: packets, Handler: z}, {Listener: stream, Handler: z}}
	ended := make(chan error, len(servers))
	for _, server := range servers {
		ready := make(chan struct{})
		server.NotifyStartedFunc = func() { close(ready) }
		go func() { ended <- server.ActivateAndServe() }()
		select {
		case <-ready:
		case err := <-ended:
			return err
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	for _, server := range servers {
		err = errors.Join(err, server.Shutdown(), <-ended)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	return errors.Join(err, json.NewEncoder(os.Stdout).Encode(z.asked))
}

// read reads the file if it is another than last time. The caller holds the lock, or is
// alone.
func (z *zoneServer) read() error {
	file, err := os.Open(z.file)
	if err != nil {
		return err
	}
	defer file.Close()
	about, err := file.Stat()
	if err != nil || about.ModTime().Equal(z.written) {
		return err
	}
	records := map[string][]dns.RR{}
	parser := dns.NewZoneParser(file, ".", z.file)
	for record, more := parser.Next(); more; record, more = parser.Next() {
		owner := dns.CanonicalName(record.Header().Name)
		records[owner] = append(records[owner], record)
	}
	z.records, z.written = records, about.ModTime()
	return parser.Err()
}

// ServeDNS answers one question.
func (z *zoneServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	reply := new(dns.Msg)
	if len(r.Question) != 1 {
		_ = w.WriteMsg(reply.SetRcode(r, dns.RcodeFormatError))
		return
	}
	name := dns.CanonicalName(r.Question[0].Name)
	count := z.asked[strings.TrimSuffix(name, ".")]
	if count == nil {
		count = &questions{}
		z.asked[strings.TrimSuffix(name, ".")] = count
	}
	if err := z.read(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		_ = w.WriteMsg(reply.SetRcode(r, dns.RcodeServerFailure))
		return
	}
	reply.SetReply(r)
	z.answer(reply, name, r.Question[0].Qtype)
	if _, isTCP := w.RemoteAddr().(*net.TCPAddr); isTCP {
		count.TCP++
	} else {
		count.UDP++
		size := dns.MinMsgSize
		if extensions := r.IsEdns0(); extensions != nil {
			size = int(extensions.UDPSize())
		}
		reply.Truncate(size)
	}
	_ = w.WriteMsg(reply)
}

// answer follows aliases to their end. A chain that is a ring ends where it began.
func (z *zoneServer) answer(reply *dns.Msg, name string, kind uint16) {
	for range len(z.records) + 1 {
		records, known := z.records[name]
		if !known {
			reply.Rcode = dns.RcodeNameError
			return
		}
		alias := ""
		for _, record := range records {
			if cname, is := record.(*dns.CNAME); is && kind != dns.TypeCNAME {
				alias = dns.CanonicalName(cname.Target)
				reply.Answer = append(reply.Answer, record)
			} else if record.Header().Rrtype == kind {
				reply.Answer = append(reply.Answer, record)
			}
		}
		if alias == "" {
			return
		}
		name = alias
	}
}

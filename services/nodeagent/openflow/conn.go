package openflow

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is what everything answers once the connection is gone. Errors wrap it together with the cause.
var ErrClosed = errors.New("connection to the switch is closed")

const (
	// stuckAfter is how long the switch may take to read what is written. ovs-vswitchd reads between all else that it
	// does; one that does not read for so long hangs, and the connection with it.
	stuckAfter = 30 * time.Second
	// readBuffer and writeChunk hold one message of the greatest length, or hundreds of flows.
	readBuffer = 64 << 10
	writeChunk = 64 << 10
)

// A Conn is one open OpenFlow connection. Any number of requests can be under way at once: a request waits for its own
// answer only. When the switch goes away, all requests fail with ErrClosed and the owner dials again.
type Conn struct {
	stream     net.Conn
	datapathID uint64

	writer chan struct{} // Holds one token: whoever has it may write.
	buffer []byte        // What is being written; belongs to the token's holder.

	mutex     sync.Mutex
	nextXID   uint32
	bundles   uint32      // Bundle ids given out.
	exchanges []*exchange // Requests under way. They are few, so a list will do.
	cause     error       // Why the connection ended.

	copies chan PacketIn // From the reader.
	lost   atomic.Uint64 // Copies that nobody took.

	ended chan struct{} // Closed when cause is set.
	done  chan struct{} // Closed when the reader and what it started have returned.
}

// Dial opens the connection to a bridge by its management socket (/run/openvswitch/br0.mgmt) and agrees on OpenFlow
// 1.3. The context bounds the dialling only.
func Dial(ctx context.Context, socket string) (*Conn, error) {
	var dialer net.Dialer
	stream, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("dial the switch: %w", err)
	}
	c := &Conn{
		stream: stream, writer: make(chan struct{}, 1), nextXID: 1,
		copies: make(chan PacketIn, copiesWaiting), ended: make(chan struct{}), done: make(chan struct{}),
	}
	c.writer <- struct{}{}
	reader := bufio.NewReaderSize(stream, readBuffer)
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })
	if err := c.greet(reader); err != nil {
		_ = stream.Close()
		return nil, errors.Join(fmt.Errorf("greet the switch: %w", err), context.Cause(ctx))
	}
	if !stop() {
		_ = stream.Close()
		return nil, fmt.Errorf("greet the switch: %w", context.Cause(ctx))
	}
	go c.read(reader)
	return c, nil
}

// greet exchanges hellos and asks who the switch is.
func (c *Conn) greet(reader io.Reader) error {
	if _, err := c.stream.Write(appendSimple(appendHello(nil, 0), typeFeaturesRequest, 0)); err != nil {
		return err
	}
	for {
		peer, m, err := readMessage(reader)
		if err != nil {
			return err
		}
		switch m.kind {
		case typeHello:
			if !speaksOurVersion(peer, m.body) {
				return errors.New("the bridge does not speak OpenFlow 1.3 (see its protocols column)")
			}
		case typeError:
			return decodeError(m.body)
		case typeFeaturesReply:
			if len(m.body) < 8 {
				return fmt.Errorf("features: %w", errTruncated)
			}
			c.datapathID = number(m.body[:8])
			return nil
		}
	}
}

// DatapathID identifies the bridge.
func (c *Conn) DatapathID() uint64 { return c.datapathID }

// Done is closed when the connection is gone, whoever ended it.
func (c *Conn) Done() <-chan struct{} { return c.ended }

// Err says why the connection is gone; nil while it is not.
func (c *Conn) Err() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.cause
}

// Close ends the connection and waits for its reader.
func (c *Conn) Close() error {
	c.end(errors.New("closed by us"))
	<-c.done
	return nil
}

// end records the first cause and wakes everybody who waits.
func (c *Conn) end(cause error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = fmt.Errorf("%w: %w", ErrClosed, cause)
	close(c.ended)
	_ = c.stream.Close()
}

// read is the one reader: it hands each message to whom it is for.
func (c *Conn) read(reader io.Reader) {
	var echoes sync.WaitGroup
	defer func() {
		echoes.Wait()
		close(c.copies)
		close(c.done)
	}()
	for {
		_, m, err := readMessage(reader)
		if err != nil {
			c.end(fmt.Errorf("read from the switch: %w", err))
			return
		}
		if m.kind == typeEchoRequest {
			// Not here: the writer may be waiting for the switch to read, and the switch for us.
			echoes.Go(func() { c.echo(m) })
			continue
		}
		if m.kind == typePacketIn && m.xid == 0 {
			c.copied(m.body)
			continue
		}
		// What else nobody asked for (port status, say) is not for us.
		if e := c.exchangeOf(m.xid); e != nil {
			e.put(m)
		}
	}
}

// echo answers the switch's question whether we are still there. A failed write ends the connection by itself.
func (c *Conn) echo(m message) {
	_ = c.write(context.Background(), func(b []byte) []byte {
		return finish(append(begin(b, typeEchoReply, m.xid), m.body...), len(b))
	})
}

// readMessage reads one message and its sender's version.
func readMessage(reader io.Reader) (peer uint8, m message, err error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(reader, header[:]); err != nil {
		return 0, message{}, err
	}
	length := int(header[2])<<8 | int(header[3])
	if length < headerSize {
		return 0, message{}, fmt.Errorf("message of %d bytes", length)
	}
	body := make([]byte, length-headerSize)
	if _, err := io.ReadFull(reader, body); err != nil {
		return 0, message{}, err
	}
	return header[0], message{kind: header[1], xid: uint32(number(string(header[4:8]))), body: string(body)}, nil
}

// write sends whole messages, which encode appends to a buffer that is used again. Nothing else is written in between.
// The wait for other writers ends with the context; a write that has begun is finished, or the connection is ended.
func (c *Conn) write(ctx context.Context, encode func([]byte) []byte) error {
	select {
	case <-c.writer:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ended:
		return c.Err()
	}
	defer func() { c.writer <- struct{}{} }()
	c.buffer = encode(c.buffer[:0])
	err := c.stream.SetWriteDeadline(time.Now().Add(stuckAfter))
	if err == nil {
		_, err = c.stream.Write(c.buffer)
	}
	if err != nil {
		c.end(fmt.Errorf("write to the switch: %w", err))
		return c.Err()
	}
	return nil
}

package openflow

import (
	"context"
	"fmt"
)

// Echo asks the switch whether it is there, and waits for the answer.
func (c *Conn) Echo(ctx context.Context) error {
	if err := c.ask(ctx, typeEchoRequest, typeEchoReply); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	return nil
}

// Barrier returns when the switch is done with all that was sent before.
func (c *Conn) Barrier(ctx context.Context) error {
	if err := c.ask(ctx, typeBarrierRequest, typeBarrierReply); err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	return nil
}

// ask sends a message without a body and waits for the one reply.
func (c *Conn) ask(ctx context.Context, request, want uint8) error {
	e, err := c.open(1)
	if err != nil {
		return err
	}
	defer c.forget(e)
	if err := c.write(ctx, func(b []byte) []byte { return appendSimple(b, request, e.first) }); err != nil {
		return err
	}
	_, err = c.expect(ctx, e, want)
	return err
}

// expect waits for the next reply and makes an error of it unless it is of the kind that is wanted.
func (c *Conn) expect(ctx context.Context, e *exchange, want uint8) (message, error) {
	m, err := c.reply(ctx, e)
	switch {
	case err != nil:
		return message{}, err
	case m.kind == typeError:
		return message{}, decodeError(m.body)
	case m.kind != want:
		return message{}, fmt.Errorf("message of type %d where %d was asked for", m.kind, want)
	}
	return m, nil
}

// SetFragments says what the switch does with IP fragments. It holds for the bridge until it is set again or
// ovs-vswitchd restarts. No copies of packets come by this connection, unless Listen is called after it.
func (c *Conn) SetFragments(ctx context.Context, mode Fragments) error {
	if err := c.configure(ctx, mode, 0); err != nil {
		return fmt.Errorf("set fragment mode: %w", err)
	}
	return nil
}

func (c *Conn) configure(ctx context.Context, mode Fragments, length uint16) error {
	e, err := c.open(2)
	if err != nil {
		return err
	}
	defer c.forget(e)
	err = c.write(ctx, func(b []byte) []byte {
		return appendSimple(appendSetConfig(b, e.first, mode, length), typeBarrierRequest, e.last)
	})
	if err == nil {
		_, err = c.expect(ctx, e, typeBarrierReply)
	}
	return err
}

// EachFlow visits every flow of every table, in the switch's order. A visited flow's Actions are valid only until the
// next visit; clone them to keep them.
func (c *Conn) EachFlow(ctx context.Context, visit func(InstalledFlow)) error {
	var scratch []Action
	err := c.multipart(ctx, multipartFlow, func(part string) (err error) {
		scratch, err = eachFlowStats(part, scratch, visit)
		return err
	})
	if err != nil {
		return fmt.Errorf("dump flows: %w", err)
	}
	return nil
}

// Aggregate sums up all flows.
func (c *Conn) Aggregate(ctx context.Context) (FlowCount, error) {
	var count FlowCount
	err := c.multipart(ctx, multipartAggregate, func(part string) (err error) {
		count, err = decodeAggregate(part)
		return err
	})
	if err != nil {
		return FlowCount{}, fmt.Errorf("aggregate flows: %w", err)
	}
	return count, nil
}

// multipart asks about all flows and hands over each part of the reply.
func (c *Conn) multipart(ctx context.Context, kind uint16, take func(part string) error) error {
	return c.askMultipart(ctx, kind, flowRequest(), take)
}

// askMultipart asks a question that can have an answer in parts, and hands over each.
func (c *Conn) askMultipart(ctx context.Context, kind uint16, question []byte, take func(part string) error) error {
	e, err := c.open(1)
	if err != nil {
		return err
	}
	defer c.forget(e)
	if err := c.write(ctx, func(b []byte) []byte { return appendMultipart(b, e.first, kind, question) }); err != nil {
		return err
	}
	for more := true; more; {
		m, err := c.expect(ctx, e, typeMultipartReply)
		if err != nil {
			return err
		}
		var part string
		if part, more, err = splitMultipart(m.body, uint64(kind)); err != nil {
			return err
		}
		if err := take(part); err != nil {
			return err
		}
	}
	return nil
}

// A bank with Dapr's Go SDK: one actor type, state, a reminder. Run it beside a Ghostlight node, see README.md.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/dapr/go-sdk/actor"
	dapr "github.com/dapr/go-sdk/client"
	daprd "github.com/dapr/go-sdk/service/http"
)

type Amount struct {
	Amount int `json:"amount"`
}

type Balance struct {
	Balance int `json:"balance"`
	Pid     int `json:"pid"`
}

// Account is one object of an account; the SDK saves its state after each method that succeeds.
type Account struct {
	actor.ServerImplBaseCtx
	client dapr.Client
}

func (a *Account) Type() string { return "Account" }

func (a *Account) now(ctx context.Context) (int, error) {
	known, err := a.GetStateManager().Contains(ctx, "balance")
	if err != nil || !known {
		return 0, err
	}
	var balance int
	err = a.GetStateManager().Get(ctx, "balance", &balance)
	return balance, err
}

func (a *Account) add(ctx context.Context, amount int) (*Balance, error) {
	balance, err := a.now(ctx)
	if err != nil {
		return nil, err
	}
	balance += amount
	return answer(balance), a.GetStateManager().Set(ctx, "balance", balance)
}

func answer(balance int) *Balance { return &Balance{balance, os.Getpid()} }

func (a *Account) Deposit(ctx context.Context, data *Amount) (*Balance, error) {
	return a.add(ctx, data.Amount)
}

// Withdraw takes first and looks afterwards: what fails leaves nothing.
func (a *Account) Withdraw(ctx context.Context, data *Amount) (*Balance, error) {
	after, err := a.add(ctx, -data.Amount)
	if err == nil && after.Balance < 0 {
		return nil, fmt.Errorf("%d missing", -after.Balance)
	}
	return after, err
}

func (a *Account) Balance(ctx context.Context) (*Balance, error) {
	balance, err := a.now(ctx)
	return answer(balance), err
}

// PayInterest gives one unit each second, from now on, whichever process has the account by then.
func (a *Account) PayInterest(ctx context.Context) (struct{}, error) {
	return struct{}{}, a.client.RegisterActorReminder(ctx, &dapr.RegisterActorReminderRequest{
		ActorType: a.Type(), ActorID: a.ID(), Name: "interest", DueTime: "1s", Period: "1s",
	})
}

// ReminderCall is the reminder; here the SDK does not save by itself.
func (a *Account) ReminderCall(_ string, _ []byte, _ string, _ string) {
	ctx := context.Background()
	_, err := a.add(ctx, 1)
	if err == nil {
		err = a.SaveState(ctx)
	}
	if err != nil {
		log.Printf("interest of %s: %v", a.ID(), err)
	}
}

func main() {
	client, err := dapr.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	service := daprd.NewService("127.0.0.1:" + os.Args[1])
	service.RegisterActorImplFactoryContext(func() actor.ServerContext { return &Account{client: client} })
	log.Fatal(service.Start())
}
